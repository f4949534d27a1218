"""Where the time of one picture goes, stage by stage: a network over a pyramid beside the peer of the same weights."""

import copy
import math
import time
from collections import defaultdict
from collections.abc import Callable
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor, nn

from benchmarking.measurements import Report, Row
from benchmarking.peer import Pair, build_pair, peer_inputs
from benchmarking.sample_pictures import as_batch, load_picture, smaller, variants
from benchmarking.what_to_measure import Settings
from detector.fast.fuse import fuse

TABLE = "stages"

STAGES = (
    "resize, normalise",
    "conv1, max pool",
    *(f"conv{number}_x" for number in range(2, 6)),
    "lateral 1×1, doubling",
    *(f"output 3×3, stride {stride}" for stride in (4, 8, 16, 32)),
    *(f"RPN 3×3, stride {stride}" for stride in (4, 8, 16, 32, 64)),
    "RPN 1×1",
    "proposals",
    "RoIAlign",
    "fully connected",
    "class and box layers",
    "detections",
    "the rest",
)


class StageClock:
    """The processor time of stages that lie within each other, each without those inside it.

    seconds: by stage, since they were last emptied.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._open: list[tuple[str, float]] = []
        self._since = 0.0

    def enter(self, stage: str) -> None:
        """A stage begins; the one around it stands still."""
        self._count()
        self._open.append((stage, self._since))

    def leave(self) -> None:
        """The stage that was entered last is over."""
        self._count()
        self._open.pop()

    def _count(self) -> None:
        now = time.process_time()
        if self._open:
            self.seconds[self._open[-1][0]] += now - self._since
        self._since = now

    def watch(self, module: nn.Module, stage: str, height: int | None = None) -> None:
        """Count what a module does for a stage. height: of the network's input, to name the stride of what it gets."""

        def begin(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            # The heights of the coarsest levels are rounded up.
            stride = None if height is None else 2 ** round(math.log2(height / inputs[0].shape[2]))
            self.enter(stage if stride is None else f"{stage}, stride {stride}")

        module.register_forward_pre_hook(begin)
        module.register_forward_hook(lambda *_: self.leave())

    def watch_method(self, owner: nn.Module, name: str, stage: str) -> None:
        """The same of a method."""
        method = getattr(owner, name)

        def timed(*args: Any) -> Any:
            self.enter(stage)
            result = method(*args)
            self.leave()
            return result

        setattr(owner, name, timed)


def run(settings: Settings, report: Report) -> None:
    """Medians of some rounds, in turns, of the first thread count; only with `--kind fpn`."""
    if settings.kind != "fpn" or settings.device.type != "cpu":
        report.note("stages: measured on a CPU, of a pyramid alone; give --kind fpn")
        return
    torch.set_num_threads(settings.threads[0])
    pixels = variants(load_picture(settings.picture, settings.size), 1)
    numbers = (settings.num_classes, max(settings.proposals), settings.rois)
    pair = build_pair(smaller(pixels[0]), settings.size, settings.depths[0], *numbers, settings.kind)
    calls = {"peer": watched_peer(pair, pixels), "ours": watched_ours(pair, pixels)}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
    for number in range(settings.rounds + 1):
        for name, (clock, call) in calls.items():
            clock.seconds.clear()
            call()
            if number > 0:  # the first chooses kernels
                rounds[name].append(dict(clock.seconds))
    for stage in STAGES:
        report.add(TABLE, _row(stage, {name: [r.get(stage, 0.0) for r in taken] for name, taken in rounds.items()}))
    report.add(TABLE, _row("all", {name: [sum(r.values()) for r in taken] for name, taken in rounds.items()}))


def _row(stage: str, taken: dict[str, list[float]]) -> Row:
    peer, ours = median(taken["peer"]), median(taken["ours"])
    return {
        "stage": stage,
        "peer, CPU ms": 1000 * peer,
        "ours, CPU ms": 1000 * ours,
        "×": peer / ours if ours else None,
    }


def watched_ours(pair: Pair, pixels: Tensor) -> tuple[StageClock, Callable[[], object]]:
    """A clock that watches the stages of our network, and a call of it on pictures [N, 3, H, W] uint8."""
    clock, model = StageClock(), cast(Any, fuse(pair.model))
    height = pixels.shape[2]
    body, pyramid = model.backbone.layers
    clock.watch(model, "the rest")
    clock.watch(model.normalize, "resize, normalise")
    clock.watch(body.stem, "conv1, max pool")
    for number, stage in enumerate(body.stages, start=2):
        clock.watch(stage, f"conv{number}_x")
    clock.watch(pyramid, "lateral 1×1, doubling")
    for output in pyramid.output:
        clock.watch(output, "output 3×3", height)
    clock.watch_method(model, "propose", "proposals")
    clock.watch(model.rpn, "RPN 1×1")
    clock.watch(model.rpn.conv, "RPN 3×3", height)
    clock.watch(model.roi_head, "RoIAlign")
    clock.watch(model.roi_head.fcs, "fully connected")
    clock.watch_method(model.roi_head, "predict", "class and box layers")
    clock.watch_method(model, "select", "detections")
    batch = as_batch(pixels, pair.config.input.pad_to_multiple)
    return clock, torch.inference_mode()(lambda: model(batch))


def watched_peer(pair: Pair, pixels: Tensor) -> tuple[StageClock, Callable[[], object]]:
    """The same of the peer."""
    clock, model = StageClock(), cast(Any, copy.deepcopy(pair.peer))
    height = pixels.shape[2]
    body, pyramid, heads = model.backbone.body, model.backbone.fpn, model.roi_heads
    clock.watch(model, "the rest")
    clock.watch(model.transform, "resize, normalise")
    for name in ("conv1", "bn1", "relu", "maxpool"):
        clock.watch(body[name], "conv1, max pool")
    for number in range(1, 5):
        clock.watch(body[f"layer{number}"], f"conv{number + 1}_x")
    clock.watch(pyramid, "lateral 1×1, doubling")
    for output in pyramid.layer_blocks:
        clock.watch(output, "output 3×3", height)
    clock.watch(model.rpn, "proposals")
    clock.watch(model.rpn.head, "RPN 1×1")
    clock.watch(model.rpn.head.conv, "RPN 3×3", height)
    clock.watch(heads, "detections")
    clock.watch(heads.box_roi_pool, "RoIAlign")
    clock.watch(heads.box_head, "fully connected")
    clock.watch(heads.box_predictor, "class and box layers")
    inputs = peer_inputs(pixels, torch.device("cpu"))
    return clock, torch.inference_mode()(lambda: model(inputs))
