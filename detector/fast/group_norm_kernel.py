"""Group norm as a kernel of Triton on channels-last maps, forward and backward, with the ReLU that may follow.

How it works: a program normalises one group of one map. It reads the group's values once and holds them in registers,
so the variance is that of differences from the mean, not a difference of large sums. Sums are float32 whatever the
maps' type is. Backward a program also sums what its map adds to the gradients of the group's weights and biases; these
sums are added up over the maps afterwards, always in the same order, so that the same step gives the same bits.

PyTorch's kernels want the usual memory order, and under autocast float32: maps are copied twice each way around them.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

PER_THREAD = 16  # values, about
WARPS = 16  # of a program, at most


def group_norm(maps: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, relu: bool = False) -> Tensor:
    """Group norm of maps (GroupNorm paper, §3.1), with gradients for maps, weight and bias.

    Args:
        maps: [N, C, H, W], bfloat16 or float32; best channels-last. `group_norm.fits` says which are small enough.
        weight, bias: [C], bfloat16 or float32.
        groups: that the channels are divided into.
        eps: added to the variance.
        relu: apply a ReLU at the end.

    Returns:
        [N, C, H, W] channels-last, in the maps' type.
    """
    normalized: Tensor = _GroupNorm.apply(maps, weight, bias, groups, eps, relu)
    return normalized


class _GroupNorm(torch.autograd.Function):
    """`group_norm`, as autograd wants it. It keeps its input and no output, which may be changed in place."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, relu: bool) -> Tensor:
        maps, weight, bias = maps.contiguous(memory_format=torch.channels_last), weight.contiguous(), bias.contiguous()
        out = torch.empty_like(maps, memory_format=torch.channels_last)
        means = torch.empty(maps.shape[0], groups, dtype=torch.float32, device=maps.device)
        scales = torch.empty_like(means)
        _launch(_forward, (maps, weight, bias, out, means, scales), groups, relu, eps=eps)
        ctx.save_for_backward(maps, weight, bias, means, scales)
        ctx.rest = (groups, relu)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight, bias, means, scales = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        of_maps = torch.empty_like(maps, memory_format=torch.channels_last)
        of_weight = torch.empty(maps.shape[:2], dtype=torch.float32, device=maps.device)
        of_bias = torch.empty_like(of_weight)
        operands = (maps, weight, bias, gradient, means, scales, of_maps, of_weight, of_bias)
        _launch(_backward, operands, *ctx.rest)
        return of_maps, of_weight.sum(dim=0).to(weight.dtype), of_bias.sum(dim=0).to(bias.dtype), None, None, None


def _launch(kernel: Any, operands: tuple[Tensor, ...], groups: int, relu: bool, **more: float) -> None:
    """Run a kernel over all groups of all maps, the first of its operands."""
    maps = operands[0]
    count, channels, height, width = maps.shape
    if maps.numel() == 0:
        return
    cells, of_group = height * width, channels // groups
    cell_block, channel_block = triton.next_power_of_2(cells), triton.next_power_of_2(of_group)
    warps = min(WARPS, max(1, cell_block * channel_block // (32 * PER_THREAD)))
    with torch.cuda.device_of(maps):
        kernel[(count * groups,)](
            *operands, channels, cells, groups, float(cells * of_group),
            **more, relu=relu, of_group=of_group, cell_block=cell_block, channel_block=channel_block,
            # Not contracted, so that both kernels agree to the bit on where the ReLU cuts.
            num_warps=warps, enable_fp_fusion=False,
        )  # fmt: skip


@triton.jit
def _group(channels, cells, groups, of_group: tl.constexpr, cell_block: tl.constexpr, channel_block: tl.constexpr):
    """Where the values of the program's group are.

    Returns:
        The place of its first value in the maps; the places of all its values from there [cell_block, channel_block],
        and which of these there are; the numbers of its channels [channel_block], and which of these there are; and the
        place of its map's first channel in [N, C].
    """
    cell, number = tl.arange(0, cell_block), tl.arange(0, channel_block)
    image, first = tl.program_id(0) // groups, tl.program_id(0) % groups * of_group
    known = number < of_group
    there = (cell < cells)[:, None] & known[None, :]
    start = image.to(tl.int64) * channels
    return start * cells + first, cell[:, None] * channels + number[None, :], there, first + number, known, start


@triton.jit
def _forward(
    maps, weight, bias, out, means, scales, channels, cells, groups, count, eps,
    relu: tl.constexpr, of_group: tl.constexpr, cell_block: tl.constexpr, channel_block: tl.constexpr,
):  # fmt: skip
    """One group of one map into `out`, and its mean and 1 / deviation into `means` and `scales` [N, groups].

    count: of the group's values.
    """
    start, place, there, channel, known, _ = _group(channels, cells, groups, of_group, cell_block, channel_block)
    values = tl.load(maps + start + place, mask=there, other=0.0).to(tl.float32)
    mean = tl.div_rn(tl.sum(tl.sum(values, axis=0), axis=0), count)
    centered = tl.where(there, values - mean, 0.0)
    variance = tl.div_rn(tl.sum(tl.sum(centered * centered, axis=0), axis=0), count)
    scale = tl.div_rn(1.0, tl.sqrt_rn(variance + eps))
    tl.store(means + tl.program_id(0), mean)
    tl.store(scales + tl.program_id(0), scale)
    factor = tl.load(weight + channel, mask=known, other=0.0).to(tl.float32)
    offset = tl.load(bias + channel, mask=known, other=0.0).to(tl.float32)
    result = centered * scale * factor[None, :] + offset[None, :]
    if relu:
        result = tl.where(result <= 0, 0.0, result)  # what is not a number stays so
    tl.store(out + start + place, result.to(out.dtype.element_ty), mask=there)


@triton.jit
def _backward(
    maps, weight, bias, gradient, means, scales, of_maps, of_weight, of_bias, channels, cells, groups, count,
    relu: tl.constexpr, of_group: tl.constexpr, cell_block: tl.constexpr, channel_block: tl.constexpr,
):  # fmt: skip
    """The gradient of one group of one map into `of_maps`, and what the map adds to those of weights and biases.

    of_weight, of_bias: [N, C], to be added up over the maps.
    """
    start, place, there, channel, known, row = _group(channels, cells, groups, of_group, cell_block, channel_block)
    mean, scale = tl.load(means + tl.program_id(0)), tl.load(scales + tl.program_id(0))
    values = tl.load(maps + start + place, mask=there, other=0.0).to(tl.float32)
    normal = tl.where(there, values - mean, 0.0) * scale
    factor = tl.load(weight + channel, mask=known, other=0.0).to(tl.float32)
    incoming = tl.load(gradient + start + place, mask=there, other=0.0).to(tl.float32)
    if relu:
        offset = tl.load(bias + channel, mask=known, other=0.0).to(tl.float32)
        incoming = tl.where(normal * factor[None, :] + offset[None, :] <= 0, 0.0, incoming)
    for_weight, for_bias = tl.sum(incoming * normal, axis=0), tl.sum(incoming, axis=0)
    tl.store(of_weight + row + channel, for_weight, mask=known)
    tl.store(of_bias + row + channel, for_bias, mask=known)
    # Through the mean, and through the variance: the gradient of a normal value is incoming · factor.
    level = tl.div_rn(tl.sum(for_bias * factor, axis=0), count)
    slope = tl.div_rn(tl.sum(for_weight * factor, axis=0), count)
    result = scale * (incoming * factor[None, :] - level - normal * slope)
    tl.store(of_maps + start + place, result.to(of_maps.dtype.element_ty), mask=there)
