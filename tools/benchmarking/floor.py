"""What the arithmetic of the network costs at least on this machine: its multiplications over the measured peak."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarking.timing import time_call
from detector.config import Config
from detector.fast.fuse import plain_parts
from detector.model.blocks import Bottleneck, Projection
from detector.model.build import build_model
from detector.model.faster_rcnn import FasterRCNN
from detector.model.roi_head import RoIHead
from detector.structures import Size

PEAK_ROUNDS = 5
LARGE, SMALL = 8192, 2048  # sides of the matrices whose product is timed, on a GPU and elsewhere


@dataclass(frozen=True)
class Work:
    """Floating-point operations, two for each multiply-add.

    written: with conv5_x per region as the papers write it. hoisted: with its first 1×1 convolutions once on the map,
    which is the least that is known to give the same numbers by direct convolution.
    """

    written: float
    hoisted: float


def inference_work(config: Config, size: Size, rois: int) -> Work:
    """The work of detecting in one picture.

    Args:
        size: of the padded input.
        rois: regions that go through conv5_x.
    """
    model = _on_meta(config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        height, width = _run(model, size, rois)
    flops = counter.get_total_flops()
    return Work(flops, flops - 2 * _saved(model, height * width, rois))


def training_work(config: Config, size: Size, rois: int) -> Work:
    """The work of training on one picture, forward and backward, with the gradients of all anchors.

    Hoisting saves the same three times: forward, and backwards for weights and for inputs.
    """
    model = _on_meta(config).train()
    with FlopCounterMode(display=False) as counter:
        height, width = _run(model, size, rois, backward=True)
    flops = counter.get_total_flops()
    return Work(flops, flops - 3 * 2 * _saved(model, height * width, rois))


def _on_meta(config: Config) -> FasterRCNN:
    with torch.device("meta"):
        return build_model(config).eval()


def _run(model: FasterRCNN, size: Size, rois: int, backward: bool = False) -> tuple[int, int]:
    """All convolutions and matrix products, on tensors without contents; returns the feature map's size."""
    backbone, rpn, head = plain_parts(model)
    features = backbone(torch.empty(1, 3, *size, device="meta"))
    values = features[0].values
    pooled = torch.empty(rois, values.shape[1], head.pooling.size, head.pooling.size, device="meta")
    if backward:  # RoIAlign is left out, and has a gradient; its own arithmetic is not counted anywhere
        pooled = pooled + values.sum()
    body = head.conv5_x if isinstance(head, RoIHead) else head.layers
    scored = [output for scores in rpn(features) for output in scores]
    outputs: tuple[Tensor, ...] = (*scored, *head.predict(body(pooled)))
    if backward:
        torch.stack([output.sum() for output in outputs]).sum().backward()  # type: ignore[no-untyped-call]
    return values.shape[2], values.shape[3]


def _saved(model: FasterRCNN, cells: int, rois: int) -> float:
    """Multiply-adds that running the first 1×1 convolutions of conv5_x on the map saves."""
    _, _, head = plain_parts(model)
    if not isinstance(head, RoIHead):
        return 0.0
    first, side = head.conv5_x[0], head.pooling.size
    if not isinstance(first, Bottleneck):
        return 0.0
    assert isinstance(first.shortcut, Projection)
    saved = 0.0
    for conv in (first.conv1, first.shortcut.conv):
        bins = (-(-side // conv.stride[0])) ** 2
        saved += conv.weight.numel() * (rois * bins - cells)
    return saved


def measure_peak(dtype: torch.dtype, device: torch.device) -> float:
    """Most floating-point operations a second that a large product or convolution reaches here, with these threads."""
    return max(_rate(call, operations, device) for call, operations in _candidates(dtype, device))


@torch.inference_mode()
def _rate(call: Callable[[], object], operations: float, device: torch.device) -> float:
    call()
    return max(
        operations / time_call(call, device, 10 if device.type == "cuda" else 1).wall for _ in range(PEAK_ROUNDS)
    )


def _candidates(dtype: torch.dtype, device: torch.device) -> list[tuple[Callable[[], object], float]]:
    """A square matrix product, and the 3×3 and 1×1 convolutions of conv5_x, channels-last."""
    gpu = device.type == "cuda"
    side, regions = (LARGE, 1024) if gpu else (SMALL, 64)
    first, second = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    candidates: list[tuple[Callable[[], object], float]] = [(lambda: first @ second, 2.0 * side**3)]
    maps = torch.randn(regions, 512, 14, 14, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    for kernel in (1, 3):
        conv = nn.Conv2d(512, 512, kernel, padding=kernel // 2, bias=False, device=device, dtype=dtype)
        weight = conv.weight.detach().to(memory_format=torch.channels_last)
        operations = 2.0 * weight.numel() * regions * 14 * 14
        candidates.append((_convolution(maps, weight, kernel // 2), operations))
    return candidates


def _convolution(maps: Tensor, weight: Tensor, padding: int) -> Callable[[], object]:
    return lambda: F.conv2d(maps, weight, padding=padding)
