"""What the kernels take that a GPU chooses between, each beside what it would replace, in milliseconds.

Without a GPU (`--device pretended`) only that which a CPU can run is tried, and its numbers mean nothing.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import torch  # noqa: E402
from overlaps import arranged  # noqa: E402
from torch import Tensor  # noqa: E402
from torchvision.ops import nms  # noqa: E402

from detector.config import BackboneConfig, Config, ModelConfig  # noqa: E402
from detector.fast import choose_on_gpu  # noqa: E402
from detector.fast.choose_on_gpu import AS_WRITTEN, ON_GPU, Opening, cudnn_fuses  # noqa: E402
from detector.fast.fastest import seconds  # noqa: E402
from detector.fast.fuse import fuse  # noqa: E402
from detector.fast.nms import survivors, ways  # noqa: E402
from detector.model.build import build_model  # noqa: E402
from detector.model.roi_pooling import RoIPooling  # noqa: E402
from detector.training.slot_sampler import draw  # noqa: E402

# R101's conv5_x, in the styles of MSRA and of torchvision.
OPENINGS = {
    "stride in the 1×1": Opening(1024, 512, 2048, (2, 2)),
    "stride in the 3×3": Opening(1024, 512, 2048, (1, 2)),
}


def milliseconds(call: Callable[[], object], device: torch.device) -> float:
    """The shortest of some calls."""
    if device.type == "cuda":
        return round(1000 * seconds(call, device), 4)
    call()
    began = time.perf_counter()
    call()
    return round(1000 * (time.perf_counter() - began), 4)


def overlaps(device: torch.device, quick: bool) -> dict[str, Any]:
    """NMS of proposals: boxes that are looked at, and how many are kept. On a GPU also each of our two ways."""
    found = {}
    problems = [(600, 100, 1)] if quick else [(1000, 256, 1), (6000, 1000, 1), (6000, 1000, 8), (12000, 2000, 4)]
    for boxes, count, pictures in problems:
        generator = torch.Generator().manual_seed(0)
        sets = [torch.stack([arranged(k, boxes, generator) for _ in range(pictures)]) for k in ("spread", "clustered")]
        for kind, given in zip(("spread", "clustered"), sets, strict=True):
            moved, valid = given.to(device), torch.ones(given.shape[:2], dtype=torch.bool, device=device)
            calls: dict[str, Callable[[], object]] = {
                "ours": partial(survivors, moved, valid, None, 0.7, count),
                "torchvision": partial(torchvision_keeps, moved, count),
            }
            if device.type == "cuda":
                for name, way in zip(("in blocks", "by a mask"), ways(), strict=True):
                    calls[name] = partial(way, moved, valid, None, 0.7, count)
            found[f"{pictures} × {boxes} to {count}, {kind}"] = {
                name: milliseconds(call, device) for name, call in calls.items()
            }
    return found


def torchvision_keeps(pictures: Tensor, count: int) -> list[Tensor]:
    """The first boxes of each picture that torchvision's NMS keeps, of [N, B, 4], the best first."""
    scores = torch.arange(pictures.shape[1], 0, -1, device=pictures.device, dtype=torch.float32)
    return [nms(boxes, scores, 0.7)[:count] for boxes in pictures]


def poolings(device: torch.device, quick: bool) -> dict[str, Any]:
    """The beginning of conv5_x on 512 regions, in each way that there is."""
    if quick:
        choose_on_gpu.MAP, choose_on_gpu.REGIONS = (6, 8), 4
    found: dict[str, Any] = {}
    for name, opening in OPENINGS.items():
        for dtype in (torch.float32,) if quick else (torch.bfloat16, torch.float32):
            for gradient in (False, True):
                pooling, ways = RoIPooling("align", 14), ON_GPU if device.type == "cuda" else (AS_WRITTEN,)
                row = (
                    f"{name}, {str(dtype).removeprefix('torch.')}, {'forward and backward' if gradient else 'forward'}"
                )
                found[row] = {}
                for way in ways:
                    try:
                        call = choose_on_gpu._pooling_call(way, pooling, opening, device, dtype, gradient)
                        found[row][str(way)] = milliseconds(call, device)
                    except Exception as error:  # what fails is a result too, and the rest is still wanted
                        found[row][str(way)] = f"{type(error).__name__}: {error}"[:300]
    return found


def pyramids(device: torch.device, quick: bool) -> dict[str, Any]:
    """RoIAlign of 512 regions on the levels of a pyramid, level by level and in one launch."""
    pooling = RoIPooling("align", 7, level_rule="detectron2")
    found: dict[str, Any] = {}
    for dtype in (torch.float32,) if quick else (torch.bfloat16, torch.float32):
        for gradient in (False, True):
            row = f"{str(dtype).removeprefix('torch.')}, {'forward and backward' if gradient else 'forward'}"
            found[row] = {}
            for way, kernel in {"level by level": False, "our kernel": True}.items():
                if kernel and device.type != "cuda":
                    continue
                try:
                    call = choose_on_gpu._levels_call(kernel, pooling, device, dtype, gradient)
                    found[row][way] = milliseconds(call, device)
                except Exception as error:  # as above
                    found[row][way] = f"{type(error).__name__}: {error}"[:300]
    return found


def group_norms(device: torch.device, quick: bool) -> dict[str, Any]:
    """Group norm and ReLU of conv5_x's maps in training under autocast: bfloat16 maps, float32 weights."""
    found: dict[str, Any] = {}
    for shape in ((2, 32, 2, 2),) if quick else ((2048, 512, 7, 7), (2048, 2048, 7, 7)):
        found[row := "×".join(map(str, shape))] = {}
        for way, kernel in {"PyTorch": False, "our kernel": True}.items():
            if kernel and device.type != "cuda":
                continue
            try:
                call = choose_on_gpu.norm_call(kernel, shape, device, torch.bfloat16, torch.float32, gradient=True)
                found[row][way] = milliseconds(call, device)
            except Exception as error:  # as above
                found[row][way] = f"{type(error).__name__}: {error}"[:300]
    return found


def networks(device: torch.device, quick: bool) -> dict[str, Any]:
    """R101's backbone in bfloat16, as kernels one by one and as a CUDA graph."""
    sizes, depth = ([(64, 96)], 18) if quick else ([(800, 1216), (400, 608)], 101)
    config = Config(model=ModelConfig(num_classes=80, backbone=BackboneConfig(depth=depth)))
    backbone: Any = fuse(build_model(config).eval().to(device), torch.bfloat16).backbone
    return {f"{height}×{width}": two_ways(backbone, height, width, device) for height, width in sizes}


@torch.inference_mode()
def two_ways(backbone: Any, height: int, width: int, device: torch.device) -> dict[str, float]:
    """The layers of a backbone by themselves, and as they run when a size has come often."""
    layers = backbone.layers
    x = backbone.execution.channels_last(torch.randn(1, 3, height, width).to(device))
    for _ in range(4):
        layers(x.clone())
    ways = {"as it is": getattr(layers, "part", layers), "as it runs": layers}
    return {name: milliseconds(partial(run_copy, way, x), device) for name, way in ways.items()}


def run_copy(layers: Any, x: Tensor) -> object:
    """Layers may overwrite what they are given."""
    return layers(x.clone())


def described(name: str, result: Any) -> str:
    """A part's numbers for people, one line for each row."""
    if not isinstance(result, dict):
        return f"{name}: {result}"
    return "\n".join(
        [f"{name}:", *(f"  {row}: {json.dumps(ways, ensure_ascii=False)}" for row, ways in result.items())]
    )


def main() -> int:
    """Write what was measured as JSON, part by part; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "pretended"), required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    device = torch.device("cuda", 0) if args.device == "cuda" else torch.device("cpu")
    parts: dict[str, Callable[[], Any]] = {
        "NMS": lambda: overlaps(device, args.quick),
        "RoIAlign and conv5_x's opening": lambda: poolings(device, args.quick),
        "RoIAlign of a pyramid": lambda: pyramids(device, args.quick),
        "group norm, forward and backward": lambda: group_norms(device, args.quick),
        "cuDNN's fused convolutions are faster": lambda: [
            cudnn_fuses(device, dtype) for dtype in (torch.bfloat16, torch.float32)
        ],
        "graphs": lambda: networks(device, args.quick),
        "drawing for a sampler, on the host": lambda: milliseconds(
            lambda: draw([1], 60_000, torch.device("cpu")), torch.device("cpu")
        ),
    }
    results: dict[str, Any] = {}
    for name, part in parts.items():
        results[name] = part()
        print(described(name, results[name]), flush=True)
        args.output.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
