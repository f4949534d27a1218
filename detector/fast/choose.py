"""Which kernel computes a convolution: every threshold, and what the processor has. (A GPU: `choose_on_gpu.py`.)

What changes rounding is chosen by the processor, the type and the shape alone, so a machine gives the same bits at
every run; it is logged once a process. A clock chooses only between kernels that give the same bits, and can be left
out.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from detector.fast.algebra.winograd_tiles import TAPS, multiplications_saved
from detector.fast.choose_on_gpu import cudnn_fuses
from detector.fast.convolution import Execution, FusedConv, PackedConv, RoIMaps, is_pointwise
from detector.fast.onednn import onednn_fault
from detector.fast.whole_maps import WholeMapConv
from detector.fast.winograd import WinogradConv
from detector.fast.winograd_fault import winograd_fault

log = logging.getLogger(__name__)

# The thresholds, each with what set it. Z: AMD EPYC, Zen 4, 2 cores, AVX-512 with bfloat16, no AMX, 2026-11-24 to 26.
# X: Intel Xeon, AVX-512 with AMX, 2 logical processors, 2026-11-26. A: AMD EPYC, AVX2 alone, 2026-11-26, while it was
# busy. Where no numbers stand none were kept: the value is the best of those tried on Z. On any processor
# `tools/benchmark.py --part kernels` measures what they decide.

# Large maps by tiles of 4×4 outputs. Z: R101's backbone 1.32 s direct, 1.10 by tiles; the RPN 0.22, 0.12 (bfloat16).
# X, a whole R101 with 1000 proposals, direct : by tiles and whole maps, two runs: float32 7.52 : 5.83, 8.09 : 6.19 s;
# bfloat16 2.17 : 2.12, 3.76 : 2.88 s. A: a pyramid's finest level, 256 channels of 200×304, float32, CPU time: 0.91 s
# direct, 0.57 by tiles (0.54 with 256 together).
TILE_BLOCK = 64  # tiles that are computed together
# Of the 3×3 convolutions of a pyramid and its RPN. A, 256 channels: the products reach 62 GFLOP/s in blocks of 64, 76
# of 128, 73 of 256, 72 of 512.
PYRAMID_TILE_BLOCK = 128
TILE_MIN_CHANNELS = 128  # with fewer, moving tiles about costs more than it saves
TILE_MIN_SAVED = 2.0  # how many times fewer multiplications make up for moving tiles

# RoIs' maps whole. Z, 50 maps of 512 channels, ms a map, direct : whole: 7×7 of stride 1 float32 1.74 : 0.75, bfloat16
# 0.86 : 0.45; 14×14 of stride 2 float32 1.93 : 1.34, bfloat16 0.96 : 0.83. X: as above. A: not measured.
WHOLE_MIN_CHANNELS = 128  # with fewer, transforming the maps costs more than it saves
WHOLE_MAX_OUTPUTS = 14  # along an axis; there are filters for each pair of a row and a column
WHOLE_MIN_SAVED = 1.4  # how many times fewer multiplications make up for transforming the maps

# Training by tiles, in float32 alone: bfloat16's rounding would be multiplied. Z: with 128 channels the direct
# convolution is the faster, forward and back. X: an R50 step takes 2.19 times less than the peer's. A: not measured.
TRAINING_BLOCK = 128  # tiles that are computed together
TRAINING_MIN_CHANNELS = 256
TRAINING_WEIGHTS = 200  # tiles that take as long as transforming and packing the weights, about
TRAINING_MIN_SAVED = 1.6  # how many times fewer multiplications, the weights' included

# 1×1 convolutions of RoIs' maps as matrix products, only with AMX and in bfloat16. X: products reach 1.25 TFLOP/s, the
# 3×3 convolutions of conv5_x 0.58 to 0.83; its 1×1s were not measured, so they are timed where they run. A, float32,
# 784 rows of 2048 and of 512 channels: convolution 84 and 87 GFLOP/s, product 70 and 73. Z: not measured.
PRODUCT_GAIN = 1.05  # so many times faster a product has to be
PRODUCT_SECONDS = 0.2  # for trying both; R50 to R152 have two such shapes, so fusing takes at most 0.4 s longer


@dataclass(frozen=True)
class Processor:
    """What PyTorch's kernels can use of the processor.

    vectors: their instructions, as PyTorch names them. amx: it multiplies tiles of bfloat16.
    """

    vectors: str
    amx: bool

    def __str__(self) -> str:
        return f"{self.vectors} with AMX" if self.amx else self.vectors


@cache
def this_processor() -> Processor:
    """The processor that this process runs on."""
    has_amx: Callable[[], bool] | None = getattr(torch.cpu, "_is_amx_tile_supported", None)  # no public interface
    return Processor(torch.backends.cpu.get_cpu_capability(), has_amx is not None and has_amx())


def choose_execution(dtype: torch.dtype, device: torch.device, compiled: bool = False, timed: bool = True) -> Execution:
    """Decide how a network is executed.

    Args:
        dtype: that is asked for. On a processor that has no bfloat16 kernels it is float32 in its place: bfloat16 would
            take about eight times as long there (A: 9 and 75 GFLOP/s).
        device: that the network is on.
        compiled: by `torch.compile`, which has kernels of its own.
        timed: try kernels that give the same bits for the faster one.
    """
    if device.type != "cpu" or dtype == torch.float64:
        timed = timed and device.type == "cuda"
        cudnn = timed and not compiled and cudnn_fuses(device, dtype)
        return Execution(dtype, onednn=False, cudnn=cudnn, timed=timed)
    log_choice(dtype)
    if dtype == torch.bfloat16 and not has_kernels(dtype):
        dtype = torch.float32
    if compiled or not has_kernels(dtype):
        return Execution(dtype, onednn=False)
    return Execution(dtype, onednn=True, winograd=has_products(dtype), timed=timed)


@cache
def has_kernels(dtype: torch.dtype) -> bool:
    """Whether oneDNN's fused convolutions are there in this type, and right."""
    return onednn_fault(dtype) is None


@cache
def has_products(dtype: torch.dtype) -> bool:
    """Whether convolutions can multiply less in this type, where `has_kernels`."""
    return winograd_fault(dtype) is None


@cache
def log_choice(dtype: torch.dtype) -> None:
    """Log which kernels a network asked for in this type will use, once per process."""
    name = str(dtype).removeprefix("torch.")
    if not has_kernels(dtype):
        fault = onednn_fault(dtype)
        if dtype == torch.bfloat16:
            log.warning(
                "bfloat16 is not used: this processor has no kernels for it (%s). The network runs in float32, which is"
                " faster here and rounds less.",
                fault,
            )
        else:
            log.warning("oneDNN's fused convolutions are not used (%s): detection is slower, but just as exact.", fault)
        return
    log.info("Convolutions run through oneDNN in %s (%s).", name, this_processor())
    if has_products(dtype):
        log.info("3×3 convolutions in %s multiply less: large maps by tiles, RoIs' maps whole.", name)
    else:
        fault = winograd_fault(dtype)
        log.warning("Minimal filtering is not used in %s (%s): detection is slower, but just as exact.", name, fault)


Conv = FusedConv | PackedConv | WinogradConv | WholeMapConv


def choose_convolution(
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: int,
    relu: bool,
    execution: Execution,
    maps: RoIMaps | None = None,
    dilation: int = 1,
    groups: int = 1,
    tiles: int = TILE_BLOCK,
) -> Conv:
    """The kernel for a convolution, holding its weights.

    Args:
        weight: [O, C, k, k], any float type.
        bias: [O] or None.
        stride, padding: of the convolution, both axes.
        relu: apply a ReLU at the end.
        execution: type and kernels.
        maps: what it is applied to, where that is nearly always of one size.
        dilation, groups: of the convolution; where they are not 1, it is computed as it is written.
        tiles: that are computed together, where it is computed by tiles.
    """
    if dilation > 1 or groups > 1:
        return FusedConv(weight, bias, stride, padding, relu, execution, dilation, groups)
    if execution.winograd and maps is not None and whole_maps_pay(weight, stride, padding, maps):
        return WholeMapConv(weight, bias, stride, relu, execution, maps, WHOLE_MIN_SAVED)
    if execution.winograd and stride == 1 and filters_3x3(weight, padding, TILE_MIN_CHANNELS):
        return WinogradConv(weight, bias, relu, execution, tiles, TILE_MIN_SAVED)
    if execution.onednn and maps is not None:
        as_product = is_pointwise(weight, stride, padding) and product_pays(weight, maps, execution, this_processor())
        return PackedConv(weight, bias, stride, padding, relu, execution, maps, as_product)
    return FusedConv(weight, bias, stride, padding, relu, execution)


def filters_3x3(weight: Tensor, padding: int, min_channels: int) -> bool:
    """Whether a convolution, weight [O, C, k, k], is 3×3 with padding 1, and O and C are at least `min_channels`."""
    return weight.shape[2:] == (TAPS, TAPS) and padding == 1 and min(weight.shape[:2]) >= min_channels


def whole_maps_pay(weight: Tensor, stride: int, padding: int, maps: RoIMaps) -> bool:
    """Whether `WholeMapConv` can compute a convolution, weight [O, C, k, k], of RoIs' maps, and is faster at it."""
    in_range = stride in (1, 2) and stride <= maps.size <= WHOLE_MAX_OUTPUTS * stride
    return in_range and filters_3x3(weight, padding, WHOLE_MIN_CHANNELS)


def training_tiles_pay(x: Tensor, weight: Tensor, stride: int, padding: int) -> bool:
    """Whether tiles are faster for x [N, C, H, W], forward and backward; never on a GPU, whose libraries choose."""
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled("cpu"):
        return False
    if stride != 1 or not filters_3x3(weight, padding, TRAINING_MIN_CHANNELS):
        return False
    return multiplications_saved(x, TRAINING_BLOCK, TRAINING_WEIGHTS) >= TRAINING_MIN_SAVED


def subsamples_first(x: Tensor, weight: Tensor, stride: int, padding: int) -> bool:
    """Whether a strided 1×1 convolution with gradients takes the pixels that it reads out of the map beforehand.

    It must where the map has fewer channels than a block of oneDNN's. For the weight's gradient oneDNN 3.12 copies
    these pixels of a channels-last map into a workspace of as many channels as the map has, but counts its place there
    in whole blocks. So it writes past the end, and the process dies, or goes on with a wrong gradient
    (https://github.com/uxlfoundation/oneDNN/issues/6035).
    """
    strided = weight.shape[2:] == (1, 1) and stride > 1 and padding == 0
    return strided and x.device.type == "cpu" and x.shape[1] < onednn_block()


@cache
def onednn_block() -> int:
    """Channels that oneDNN's float32 kernels compute together: a vector of them, the longest where it is not known."""
    # Not by `this_processor`: PyTorch can be told to use less of the processor, and oneDNN does not hear of it.
    has_avx512: Callable[[], bool] | None = getattr(torch.cpu, "_is_avx512_supported", None)  # no public interface
    return 8 if has_avx512 is not None and not has_avx512() else 16


def product_pays(weight: Tensor, maps: RoIMaps, execution: Execution, processor: Processor) -> bool:
    """Whether a 1×1 convolution, weight [O, C, 1, 1], of RoIs' maps runs faster as a matrix product.

    False where that is not tried: without AMX, in other types than bfloat16, or with timing switched off.
    """
    if not (execution.timed and processor.amx and execution.dtype == torch.bfloat16):
        return False
    return product_is_faster(weight.shape[0], weight.shape[1], maps, execution.dtype)


@cache
def product_is_faster(outputs: int, channels: int, maps: RoIMaps, dtype: torch.dtype) -> bool:
    """Try a 1×1 convolution and the matrix product on these maps; True where the bits are the same and it gains.

    Takes `PRODUCT_SECONDS` at most, and three calls of each at least.
    """
    end = time.perf_counter() + PRODUCT_SECONDS
    execution, generator = Execution(dtype, onednn=True), torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, channels, 1, 1, generator=generator) / channels**0.5
    bias = torch.randn(outputs, generator=generator)
    x, residual = (
        execution.channels_last(torch.randn(maps.count, c, maps.size, maps.size, generator=generator))
        for c in (channels, outputs)
    )
    convolution, product = (PackedConv(weight, bias, 1, 0, True, execution, maps, kind) for kind in (False, True))
    if not torch.equal(convolution(x), product(x)):
        return False
    if not torch.equal(
        *(conv(x, residual.clone(memory_format=torch.preserve_format)) for conv in (convolution, product))
    ):
        return False
    by_convolution, by_product = map(min, zip(*_turns(lambda: convolution(x), lambda: product(x), end), strict=True))
    if by_convolution < PRODUCT_GAIN * by_product:
        return False
    shape, gain = f"{channels} to {outputs} channels", by_convolution / by_product
    log.info("1×1 convolutions of RoIs from %s run as products, %.2f times faster.", shape, gain)
    return True


def _turns(first: Callable[[], Tensor], second: Callable[[], Tensor], end: float) -> list[tuple[float, float]]:
    """The seconds of every call of the two, which take turns until the time is up, with at least one turn each."""
    turns: list[tuple[float, float]] = []
    while not turns or time.perf_counter() + sum(turns[-1]) < end:
        times = [time.perf_counter()]
        for call in (first, second):
            call()
            times.append(time.perf_counter())
        turns.append((times[1] - times[0], times[2] - times[1]))
    return turns
