"""Which kernels a GPU runs where there is a choice: measured on that GPU, once a process, and said in its log.

What is measured against each other differs in rounding, so two processes may choose differently and differ by that.
`timed=False` of `fuse` measures nothing and takes what has always been there.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from detector.fast.fastest import fastest, pass_to_time
from detector.fast.group_norm_fault import EPS, by_pytorch, group_norm_fault
from detector.fast.roi_align_fault import levels_fault, pooling_fault, pyramid, regions
from detector.fast.roi_levels import pool_levels
from detector.model.blocks import Bottleneck, Projection
from detector.model.roi_pooling import LevelRule, RoIPooling

log = logging.getLogger(__name__)

MAP, REGIONS = (50, 76), 512  # of what is tried: a picture of 800×1216 at stride 16

MAPS = 256  # of regions, on which convolutions are tried
NORMED, GROUPS = (1024, 512, 7, 7), 32  # on which group norm is tried


@dataclass(frozen=True)
class PoolingWay:
    """How conv5_x on regions begins.

    kernel: whether RoIAlign is that of `roi_align_kernel`; else it is torchvision's, or on a CPU `roi_align`'s.
    hoisted: whether the 1×1 convolutions that open conv5_x run before it.
    """

    kernel: bool
    hoisted: bool

    def __str__(self) -> str:
        return (
            f"{'our kernel' if self.kernel else 'torchvision'}, {'after' if self.hoisted else 'before'} the first 1×1s"
        )


ON_CPU = PoolingWay(kernel=False, hoisted=True)
# What can always be done, and all that other devices do. There is no hoisting with torchvision's RoIAlign: it pools
# every bin of both hoisted maps, in float32, two and a half times as many values as of the features, which takes longer
# than the products that are saved (by counting).
AS_WRITTEN = PoolingWay(kernel=False, hoisted=False)
# What a GPU chooses from, the first by default.
ON_GPU = (AS_WRITTEN, PoolingWay(kernel=True, hoisted=False), PoolingWay(kernel=True, hoisted=True))


@dataclass(frozen=True)
class Opening:
    """The two 1×1 convolutions that open conv5_x: the first, and the shortcut's.

    channels: of the input of both. reduced, projected: of their outputs. strides: theirs.
    """

    channels: int
    reduced: int
    projected: int
    strides: tuple[int, int]

    @classmethod
    def of(cls, block: Bottleneck) -> "Opening":
        """Those of a block that begins with a projection."""
        assert isinstance(block.shortcut, Projection)
        first, shortcut = block.conv1, block.shortcut.conv
        strides = (first.stride[0], shortcut.stride[0])
        return cls(first.in_channels, first.out_channels, shortcut.out_channels, strides)


def pooling_way(
    pooling: RoIPooling, block: nn.Module, device: torch.device, dtype: torch.dtype, gradient: bool, timed: bool = True
) -> PoolingWay:
    """How conv5_x on regions begins.

    Only RoIAlign and 1×1 convolutions commute: RoIPool takes maxima, and a basic block opens with a 3×3 convolution.

    Args:
        pooling: what kind of pooling.
        block: the first of conv5_x.
        device, dtype: of the features.
        gradient: what counts is the time of forward and backward pass together.
        timed: measure, on a CUDA device.
    """
    if pooling.kind != "align" or not isinstance(block, Bottleneck):
        return AS_WRITTEN
    if device.type == "cpu":
        return ON_CPU
    if device.type != "cuda" or not timed or dtype == torch.float64:
        return AS_WRITTEN
    shape = (pooling.size, pooling.sampling_ratio, pooling.aligned)
    return _fastest_pooling(shape, Opening.of(block), device, dtype, gradient)


@cache
def _fastest_pooling(
    shape: tuple[int, int, bool], opening: Opening, device: torch.device, dtype: torch.dtype, gradient: bool
) -> PoolingWay:
    """The quickest of `ON_GPU` that computes what torchvision does."""
    pooling = RoIPooling("align", *shape)
    fault = _interpreted() or pooling_fault(pooling, device, dtype)
    if fault is not None:
        log.warning("RoIAlign runs through torchvision (%s): slower, but just as exact.", fault)
        return AS_WRITTEN
    calls = {way: _pooling_call(way, pooling, opening, device, dtype, gradient) for way in ON_GPU}
    best = fastest(calls, device)
    log.info("RoIAlign %s: %s.", "in training" if gradient else "in detection", best)
    return best


def _interpreted() -> str | None:
    """That kernels run on the host, for tests, by Triton's own setting; else None."""
    return "Triton interprets its kernels" if os.environ.get("TRITON_INTERPRET") == "1" else None


def _pooling_call(
    way: PoolingWay, pooling: RoIPooling, opening: Opening, device: torch.device, dtype: torch.dtype, gradient: bool
) -> Callable[[], object]:
    """The beginning of conv5_x computed in one way, on a problem of usual size."""
    generator = torch.Generator().manual_seed(0)

    def weight(outputs: int) -> Tensor:
        made = torch.randn(outputs, opening.channels, 1, 1, generator=generator) / opening.channels**0.5
        return made.to(device, dtype, memory_format=torch.channels_last).requires_grad_(gradient)

    features = torch.randn(1, opening.channels, *MAP, generator=generator)
    features = features.to(device, dtype, memory_format=torch.channels_last).requires_grad_(gradient)
    weights, rois = [weight(opening.reduced), weight(opening.projected)], regions(REGIONS, MAP, device, generator)

    def pooled(maps: Tensor, step: int) -> Tensor:
        if way.kernel:
            from detector.fast.roi_align_kernel import pool

            return pool(maps, rois, pooling, 16, step)
        plain = maps.float().contiguous()
        out = roi_align(plain, rois, pooling.size, 1 / 16, pooling.sampling_ratio, pooling.aligned)
        return out[:, :, ::step, ::step].to(dtype, memory_format=torch.channels_last)

    def forward() -> list[Tensor]:
        if way.hoisted:
            return [pooled(F.conv2d(features, w), stride) for w, stride in zip(weights, opening.strides, strict=True)]
        maps = pooled(features, 1)
        return [F.conv2d(maps, w, stride=stride) for w, stride in zip(weights, opening.strides, strict=True)]

    def backward(outs: list[Tensor]) -> None:
        torch.autograd.backward([out.sum() for out in outs])

    return pass_to_time(forward, backward, gradient)


def pools_levels_by_kernel(
    pooling: RoIPooling, device: torch.device, dtype: torch.dtype, gradient: bool, timed: bool = True
) -> bool:
    """Whether `roi_levels` pools the regions of a pyramid by our kernel. The arguments are those of `pooling_way`."""
    if pooling.kind != "align" or device.type != "cuda" or not timed or dtype == torch.float64:
        return False
    shape = (pooling.size, pooling.sampling_ratio, pooling.aligned, pooling.level_rule)
    return _kernel_pools_levels(shape, device, dtype, gradient)


@cache
def _kernel_pools_levels(
    shape: tuple[int, int, bool, LevelRule | None], device: torch.device, dtype: torch.dtype, gradient: bool
) -> bool:
    """Whether the kernel is there, computes what it should, and is faster than pooling every level by itself."""
    pooling = RoIPooling("align", *shape)
    fault = _interpreted() or levels_fault(pooling, device, dtype)
    if fault is not None:
        log.warning("RoIAlign of a pyramid runs through torchvision (%s): slower, but just as exact.", fault)
        return False
    calls = {kernel: _levels_call(kernel, pooling, device, dtype, gradient) for kernel in (False, True)}
    best = fastest(calls, device)
    kind = "in training" if gradient else "in detection"
    log.info("RoIAlign of a pyramid %s: %s.", kind, "our kernel" if best else "torchvision")
    return best


def _levels_call(
    kernel: bool, pooling: RoIPooling, device: torch.device, dtype: torch.dtype, gradient: bool
) -> Callable[[], object]:
    """RoIAlign of a pyramid in one way, on a problem of usual size."""
    features, rois = pyramid(256, MAP, REGIONS, pooling, device, dtype, gradient)

    def forward() -> Tensor:
        return pool_levels(features, rois, pooling, kernel).to(dtype)

    def backward(out: Tensor) -> None:
        torch.autograd.backward(out.sum())

    return pass_to_time(forward, backward, gradient)


def normalizes_by_kernel(device: torch.device, dtype: torch.dtype, of_weights: torch.dtype, gradient: bool) -> bool:
    """Whether group norm of regions' maps runs by our kernel.

    Args:
        device, dtype: of the maps.
        of_weights: the type of the norm's weights; autocast lets it be another than the maps'.
        gradient: what counts is the time of forward and backward pass together.
    """
    return device.type == "cuda" and _kernel_normalizes(device, dtype, of_weights, gradient)


@cache
def _kernel_normalizes(device: torch.device, dtype: torch.dtype, of_weights: torch.dtype, gradient: bool) -> bool:
    """Whether the kernel is there, computes what it should, and is faster than PyTorch's."""
    fault = _interpreted() or group_norm_fault(device, dtype)
    if fault is not None:
        log.warning("Group norm runs through PyTorch (%s): slower, but just as exact.", fault)
        return False
    calls = {kernel: norm_call(kernel, NORMED, device, dtype, of_weights, gradient) for kernel in (False, True)}
    best = fastest(calls, device)
    log.info("Group norm %s: %s.", "in training" if gradient else "in detection", "our kernel" if best else "PyTorch")
    return best


def norm_call(
    kernel: bool,
    shape: tuple[int, int, int, int],
    device: torch.device,
    dtype: torch.dtype,
    of_weights: torch.dtype,
    gradient: bool,
) -> Callable[[], object]:
    """Group norm and ReLU of channels-last maps in one way, to what the next convolution takes."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(shape, generator=generator).to(device, dtype, memory_format=torch.channels_last)
    weight, bias = (torch.randn(shape[1], generator=generator).to(device, of_weights) for _ in range(2))
    given = [t.requires_grad_(gradient) for t in (maps, weight, bias)]

    def forward() -> Tensor:
        if kernel:
            from detector.fast.group_norm_kernel import group_norm

            return group_norm(maps, weight, bias, GROUPS, EPS, True)
        with torch.autocast(device.type, dtype, enabled=dtype != of_weights):
            out = by_pytorch(maps, weight, bias, GROUPS, EPS, True)
        return out.to(dtype, memory_format=torch.channels_last)

    incoming = torch.ones_like(maps)

    def backward(out: Tensor) -> None:
        torch.autograd.grad(out, given, incoming)

    return pass_to_time(forward, backward, gradient)


@cache
def cudnn_fuses(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether cuDNN's one kernel of convolution, bias, addition and ReLU is there, right, and faster than three."""
    if device.type != "cuda" or dtype == torch.float64:
        return False
    generator = torch.Generator().manual_seed(0)
    shapes = {"x": (MAPS, 128, 14, 14), "weight": (512, 128, 1, 1), "residual": (MAPS, 512, 14, 14)}
    x, weight, residual = (
        torch.randn(shape, generator=generator).to(device, dtype, memory_format=torch.channels_last)
        for shape in shapes.values()
    )
    bias = torch.randn(512, generator=generator).to(device, dtype)
    fused = partial(torch.cudnn_convolution_add_relu, x, weight, residual, 1.0, bias, (1, 1), (0, 0), (1, 1), 1)

    def separate() -> Tensor:
        return (F.conv2d(x, weight, bias) + residual).relu_()

    try:
        error = float((fused() - separate()).float().abs().max() / separate().float().abs().max())
        if error > 8 * torch.finfo(dtype).eps:
            log.warning("cuDNN's fused convolutions are not used: they are off by %.1e.", error)
            return False
        faster = fastest({False: separate, True: fused}, device)
    except (RuntimeError, NotImplementedError) as reason:
        log.info("cuDNN's fused convolutions are not used (%s).", str(reason).strip().splitlines()[0])
        return False
    log.info("Convolutions with an addition run in %s.", "one kernel of cuDNN's" if faster else "three kernels")
    return faster
