"""RoIAlign as a kernel of Triton on channels-last maps, forward and backward. It computes what `roi_align.align` does.

How it works: as there, a bin's value is a sum over map cells of row factor times column factor times value. A program
makes one row of one RoI's bins, for a block of channels: neighbouring threads read neighbouring channels of a cell, and
a cell is read once for a bin, not once for each of its samples. Sums are float32 whatever the map's type is. The
convolution's bias and the ReLU that follow pooling are done before the result is written. For a pyramid a program first
looks up the level that its RoI is on (`roi_align_pyramid.py`).
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from detector.model.roi_pooling import RoIPooling

# Channels of a program, forward and backward, and samples of a bin that are weighed together. Forward, on an H200 in
# bfloat16, 1000 regions: 2048 channels of 7×7 bins in 0.39 ms, in blocks of 128 in 0.72; 512 of 14×14 in 0.39 and 0.45.
FORWARD_CHANNELS, BACKWARD_CHANNELS, SAMPLES = 512, 128, 4


def pool(
    maps: Tensor,
    rois: Tensor,
    pooling: RoIPooling,
    stride: int,
    step: int = 1,
    bias: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """RoIAlign of RoIs on a map, with gradients for the map and the bias.

    Args:
        maps: [N, C, H', W'], bfloat16 or float32; best channels-last.
        rois: [R, 5] float32 of (image index, x1, y1, x2, y2), absolute pixels of the input image.
        pooling: what kind of RoIAlign.
        stride: of the map.
        step: only bins 0, step, 2·step, … along each axis.
        bias: [C], added to every bin.
        relu: apply a ReLU at the end.

    Returns:
        [R, C, S, S] channels-last, in the map's type.
    """
    pooled: Tensor = _Pool.apply(maps, rois, bias, pooling, stride, step, relu)
    return pooled


class _Pool(torch.autograd.Function):
    """`pool`, as autograd wants it."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        rois: Tensor,
        bias: Tensor | None,
        pooling: RoIPooling,
        stride: int,
        step: int,
        relu: bool,
    ) -> Tensor:
        maps, rois = maps.contiguous(memory_format=torch.channels_last), rois.contiguous()
        size = -(-pooling.size // step)
        out = torch.empty(
            (rois.shape[0], maps.shape[1], size, size),
            dtype=maps.dtype, device=maps.device, memory_format=torch.channels_last,
        )  # fmt: skip
        added = rois if bias is None else bias.float().contiguous()
        given, size_of_map = (maps, rois, out, added, rois, rois), (maps.shape[2], maps.shape[3], 1.0 / stride)
        choices = {"has_bias": bias is not None, "relu": relu, "pyramid": False}
        launch(forward_kernel, given, size_of_map, pooling, step, **choices)
        ctx.save_for_backward(rois, out if relu else None)
        ctx.rest = (maps.shape, maps.dtype, pooling, stride, step, None if bias is None else bias.dtype)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        rois, out = ctx.saved_tensors
        shape, dtype, pooling, stride, step, bias_type = ctx.rest
        if out is not None:
            gradient = gradient.where(out > 0, 0.0)
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_maps = torch.empty(shape, dtype=torch.float32, device=gradient.device, memory_format=torch.channels_last)
        given, size_of_map = (of_maps.zero_(), rois, gradient, rois, rois), (shape[2], shape[3], 1.0 / stride)
        launch(backward_kernel, given, size_of_map, pooling, step, pyramid=False)
        wants_bias = ctx.needs_input_grad[2]  # a folded norm's offset is fixed
        of_bias = gradient.sum(dim=(0, 2, 3), dtype=torch.float32).to(bias_type) if wants_bias else None
        return of_maps.to(dtype), None, of_bias, None, None, None, None


def launch(
    kernel: Any,
    operands: tuple[Tensor, ...],
    map_size: tuple[int, int, float],
    pooling: RoIPooling,
    step: int,
    **choices: bool,
) -> None:
    """Run a kernel over all rows of bins.

    Args:
        operands: map, RoIs, bins [R, C, S, S], and what else the kernel takes.
        map_size: cells along both axes, and cells per pixel; of a pyramid its table says them.
    """
    maps, _, bins, *_ = operands
    count, channels, size, _ = bins.shape
    if bins.numel() == 0:
        return
    block = min(FORWARD_CHANNELS if kernel is forward_kernel else BACKWARD_CHANNELS, triton.next_power_of_2(channels))
    with torch.cuda.device_of(maps):
        kernel[(count * size, triton.cdiv(channels, block))](
            *operands, channels, *map_size, size, step,
            pooling.size, pooling.sampling_ratio,
            **choices, aligned=pooling.aligned,
            width_block=triton.next_power_of_2(size), block=block, samples=SAMPLES,
            num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip


@triton.jit
def _level(levels, table, roi):
    """Of the level that a RoI is on: its first cell, cells along both axes, and cells per pixel.

    levels: [R]. table: [L, 4] int64 of (first cell, rows, columns, stride).
    """
    row = table + tl.load(levels + roi) * 4
    stride = tl.load(row + 3).to(tl.float32)
    height, width = tl.load(row + 1).to(tl.int32), tl.load(row + 2).to(tl.int32)
    return tl.load(row), height, width, tl.div_rn(stride * 0 + 1.0, stride)


@triton.jit
def _axis(low, high, scale, bins, ratio, aligned: tl.constexpr):
    """First edge, length of a bin, and samples per bin of a RoI along one axis, as `roi_align._start_and_extent`."""
    start = low * scale
    extent = high * scale - start
    if aligned:
        start = low * scale - 0.5
        extent = (high * scale - 0.5) - start
    else:
        extent = tl.maximum(extent, 1.0)
    length = tl.div_rn(extent, bins + 0.0)
    grid = tl.maximum(tl.ceil(length), 0.0).to(tl.int32)
    if ratio > 0:
        grid = ratio + grid * 0
    return start, length, grid


@triton.jit
def _first_cell(start, length, grid, bin, cells):
    """The first cell from which bins take anything."""
    at = start + bin * length + tl.div_rn(0.5 * length + bin * 0, tl.maximum(grid, 1).to(tl.float32) + bin * 0)
    return tl.floor(tl.minimum(tl.maximum(at, 0.0), cells - 1.0)).to(tl.int32)


@triton.jit
def _last_cell(start, length, grid, bin, cells):
    """The last cell from which bins take anything."""
    many = tl.maximum(grid, 1).to(tl.float32)
    at = start + bin * length + tl.div_rn((many - 0.5) * length + bin * 0, many + bin * 0)
    return tl.ceil(tl.minimum(tl.maximum(at, 0.0), cells - 1.0)).to(tl.int32)


@triton.jit
def _share(start, length, grid, bin, cell, cells, samples: tl.constexpr):
    """How much a cell adds to a bin along one axis, [B] for bins [B] and cells [B]."""
    count = tl.maximum(grid, 1).to(tl.float32)
    total = bin * 0.0
    first = 0
    while first < grid:
        sample = first + tl.arange(0, samples)
        offset = (sample + 0.5) * length
        at = (start + bin * length)[:, None] + tl.div_rn(offset, count + offset * 0)[None, :]
        # A sample more than a cell outside of the map counts as zero; one nearer takes the border's value.
        counted = (sample < grid)[None, :] & (at >= -1.0) & (at <= cells)
        at = tl.minimum(tl.maximum(at, 0.0), cells - 1.0)
        share = tl.maximum(1.0 - tl.abs(at - cell[:, None]), 0.0)
        total += tl.sum(tl.where(counted, share, 0.0), axis=1)
        first += samples
    return tl.div_rn(total, count + total * 0)


@triton.jit
def forward_kernel(
    maps, rois, out, bias, levels, table, channels, height, width, scale, size, step, bins, ratio,
    aligned: tl.constexpr, has_bias: tl.constexpr, relu: tl.constexpr, pyramid: tl.constexpr,
    width_block: tl.constexpr, block: tl.constexpr, samples: tl.constexpr,
):  # fmt: skip
    """`pool`: one row of one RoI's bins, for a block of channels."""
    row = tl.program_id(0)
    roi = row // size
    channel = tl.program_id(1) * block + tl.arange(0, block)
    number = tl.arange(0, width_block)
    if pyramid:
        start, height, width, scale = _level(levels, table, roi)
        maps += start * channels
    x1, y1 = tl.load(rois + roi * 5 + 1), tl.load(rois + roi * 5 + 2)
    x2, y2 = tl.load(rois + roi * 5 + 3), tl.load(rois + roi * 5 + 4)
    top, tall, rows = _axis(y1, y2, scale, bins, ratio, aligned)
    left, wide, columns = _axis(x1, x2, scale, bins, ratio, aligned)
    bin_y = tl.zeros([1], tl.float32) + (row % size) * step
    bin_x = (number * step).to(tl.float32)
    first_y, last_y = _first_cell(top, tall, rows, bin_y, height), _last_cell(top, tall, rows, bin_y, height)
    first_x, last_x = _first_cell(left, wide, columns, bin_x, width), _last_cell(left, wide, columns, bin_x, width)
    most = tl.max(tl.where(number < size, last_x - first_x, 0), axis=0)
    maps += tl.load(rois + roi * 5).to(tl.int64) * height * width * channels
    there = (number < size)[:, None] & (channel < channels)[None, :]
    total = tl.zeros([width_block, block], tl.float32)
    down = 0
    while down <= tl.max(last_y - first_y, axis=0):
        cell_y = first_y + down
        of_row = tl.sum(_share(top, tall, rows, bin_y, cell_y, height, samples), axis=0)
        across = 0
        while across <= most:
            cell_x = tl.minimum(first_x + across, width - 1)
            share = of_row * _share(left, wide, columns, bin_x, first_x + across, width, samples)
            place = (tl.max(cell_y, axis=0) * width + cell_x) * channels
            used = there & (share != 0)[:, None]
            values = tl.load(maps + place[:, None] + channel[None, :], mask=used, other=0.0)
            total += share[:, None] * values.to(tl.float32)
            across += 1
        down += 1
    if has_bias:
        total += tl.load(bias + channel, mask=channel < channels, other=0.0)[None, :]
    if relu:
        total = tl.maximum(total, 0.0)
    place = (row.to(tl.int64) * size + number) * channels
    tl.store(out + place[:, None] + channel[None, :], total.to(out.dtype.element_ty), mask=there)


@triton.jit
def backward_kernel(
    maps, rois, bins_gradient, levels, table, channels, height, width, scale, size, step, bins, ratio,
    aligned: tl.constexpr, pyramid: tl.constexpr,
    width_block: tl.constexpr, block: tl.constexpr, samples: tl.constexpr,
):  # fmt: skip
    """The gradient of the maps, added up in `maps`, from that of one row of one RoI's bins, for a block of channels."""
    row = tl.program_id(0)
    roi = row // size
    channel = tl.program_id(1) * block + tl.arange(0, block)
    number = tl.arange(0, width_block)
    if pyramid:
        start, height, width, scale = _level(levels, table, roi)
        maps += start * channels
    x1, y1 = tl.load(rois + roi * 5 + 1), tl.load(rois + roi * 5 + 2)
    x2, y2 = tl.load(rois + roi * 5 + 3), tl.load(rois + roi * 5 + 4)
    top, tall, rows = _axis(y1, y2, scale, bins, ratio, aligned)
    left, wide, columns = _axis(x1, x2, scale, bins, ratio, aligned)
    bin_y = tl.zeros([1], tl.float32) + (row % size) * step
    bin_x = (number * step).to(tl.float32)
    first_y, last_y = _first_cell(top, tall, rows, bin_y, height), _last_cell(top, tall, rows, bin_y, height)
    first_x, last_x = _first_cell(left, wide, columns, bin_x, width), _last_cell(left, wide, columns, bin_x, width)
    most = tl.max(tl.where(number < size, last_x - first_x, 0), axis=0)
    maps += tl.load(rois + roi * 5).to(tl.int64) * height * width * channels
    there = (number < size)[:, None] & (channel < channels)[None, :]
    own = (row.to(tl.int64) * size + number) * channels
    gradient = tl.load(bins_gradient + own[:, None] + channel[None, :], mask=there, other=0.0).to(tl.float32)
    down = 0
    while down <= tl.max(last_y - first_y, axis=0):
        cell_y = first_y + down
        of_row = tl.sum(_share(top, tall, rows, bin_y, cell_y, height, samples), axis=0)
        across = 0
        while across <= most:
            cell_x = tl.minimum(first_x + across, width - 1)
            share = of_row * _share(left, wide, columns, bin_x, first_x + across, width, samples)
            place = (tl.max(cell_y, axis=0) * width + cell_x) * channels
            used = there & (share != 0)[:, None]
            tl.atomic_add(maps + place[:, None] + channel[None, :], share[:, None] * gradient, mask=used, sem="relaxed")
            across += 1
        down += 1
