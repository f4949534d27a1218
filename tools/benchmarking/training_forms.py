"""One training step of either network, in the forms that are measured."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarking.forms import Form, convert_peer
from benchmarking.peer import Pair, peer_inputs
from benchmarking.sample_pictures import as_batch
from detector.arithmetic import Precision
from detector.config import TrainConfig
from detector.datasets.loading.batch import TrainingBatch
from detector.structures import Target
from detector.training.joint import build_joint
from detector.training.optimizer import build_optimizer, set_learning_rate
from detector.training.step import clip_and_check, forward_backward, mean_losses

# So small that the weights of both stay where they were; the arithmetic is the same.
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 1e-8, 0.9, 1e-4
OBJECTS = 8  # a picture


@dataclass(frozen=True)
class Step:
    """run: takes a step and returns the losses by our names. regions: how many the last one put through conv5_x."""

    run: Callable[[], dict[str, Tensor]]
    regions: Callable[[], int]


def random_targets(size: tuple[int, int], images: int, num_classes: int) -> list[Target]:
    """`OBJECTS` boxes a picture, of sides from an eighth to a half of its shorter side."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    targets = []
    for _ in range(images):
        sides = min(size) * (0.125 + 0.375 * torch.rand(OBJECTS, 2, generator=generator))
        corner = torch.rand(OBJECTS, 2, generator=generator) * (torch.tensor([width, height]) - sides)
        labels = torch.randint(1, num_classes + 1, (OBJECTS,), generator=generator)
        targets.append(Target(torch.cat((corner, corner + sides), dim=1), labels))
    return targets


def prepare_step(form: Form, pair: Pair, pixels: Tensor, targets: list[Target], device: torch.device) -> Step:
    """A step in this form: pictures to the device, forward, backward, and the optimizer's; [N, 3, H, W] uint8."""
    if form.network == "peer":
        return _peer_step(form, pair, pixels, targets, device)
    return _our_step(form, pair, pixels, targets, device)


def _peer_step(form: Form, pair: Pair, pixels: Tensor, targets: list[Target], device: torch.device) -> Step:
    """The peer's step, as torchvision's own training script takes it."""
    peer = convert_peer(form, pair.peer, device).train()
    regions = _count_regions(peer, "roi_heads.box_head")
    optimizer = torch.optim.SGD(
        [p for p in peer.parameters() if p.requires_grad], LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    inputs = peer_inputs(pixels, device)

    def step() -> dict[str, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, form.dtype, enabled=form.dtype != torch.float32):
            losses = peer([picture.to(device, non_blocking=True) for picture in inputs], as_dicts(targets, device))
            total: Tensor = sum(losses.values())
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return our_loss_names(losses)

    return Step(step, regions)


def _our_step(form: Form, pair: Pair, pixels: Tensor, targets: list[Target], device: torch.device) -> Step:
    """Our step, as the training engine takes it; the readable form runs the network as it is defined."""
    model = copy.deepcopy(pair.model).to(device).train()
    if form.fast and device.type == "cuda":
        model = model.to(memory_format=torch.channels_last)
    joint = build_joint(model, pair.config.model, fast=form.fast)
    regions = _count_regions(model, "roi_head.cls_score")
    optimizer = build_optimizer(model, TrainConfig(momentum=MOMENTUM, weight_decay=WEIGHT_DECAY))
    set_learning_rate(optimizer, LEARNING_RATE)
    images = as_batch(pixels, pair.config.input.pad_to_multiple)
    batch = TrainingBatch(0, images, targets, list(range(len(images))))
    batch = batch.pin_memory() if device.type == "cuda" else batch

    # As PyTorch is set, like the peer: its convolutions use TF32 on a GPU.
    precision: Precision = "bfloat16" if form.dtype == torch.bfloat16 else "tf32"

    def step() -> dict[str, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        losses = mean_losses(forward_backward(joint, [batch], device, precision))
        assert clip_and_check(losses, model, None)
        optimizer.step()
        return losses

    return Step(step, regions)


def _count_regions(network: nn.Module, path: str) -> Callable[[], int]:
    """Watch how many regions the module at `path` is given."""
    counts = [0]

    def note(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        counts[0] = inputs[0].shape[0]

    network.get_submodule(path).register_forward_pre_hook(note)
    return lambda: counts[0]


def as_dicts(targets: list[Target], device: torch.device) -> list[dict[str, Tensor]]:
    """Targets as torchvision wants them."""
    return [
        {"boxes": t.boxes.to(device, non_blocking=True), "labels": t.labels.to(device, non_blocking=True)}
        for t in targets
    ]


def our_loss_names(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's four losses by our names, detached."""
    names = {
        "loss_objectness": "rpn_objectness",
        "loss_rpn_box_reg": "rpn_box",
        "loss_classifier": "roi_class",
        "loss_box_reg": "roi_box",
    }
    return {names[name]: loss.detach() for name, loss in losses.items()}
