"""Winograd's 3×3 convolutions with gradients: forward and backward with a quarter of the multiplications."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.fast.algebra.minimal_filtering import for_each
from detector.fast.algebra.tiles import (
    POINTS,
    TAPS,
    Tiling,
    convolve,
    multiplications_saved,
    suits,
    transforms,
)
from detector.fast.convolution import onednn_fault
from detector.fast.winograd import point_products, winograd_fault

BLOCK = 128  # tiles that are computed together
MIN_CHANNELS = 256  # below, moving tiles about and back costs more than it saves
WEIGHTS = 200  # tiles that take as long as transforming and packing the weights, about
MIN_SAVED = 1.6  # how many times fewer multiplications, these included, are faster


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """As `torch.nn.functional.conv2d`, on channels-last maps; by Winograd's way where that is faster."""
    if not _pays(x, weight, stride, padding):
        return F.conv2d(x, weight, bias, stride, padding)
    out: Tensor = _Winograd.apply(x, weight, bias)
    return out


def _pays(x: Tensor, weight: Tensor, stride: int, padding: int) -> bool:
    """Not on a GPU, whose own libraries choose; nor in bfloat16, whose rounding it would multiply."""
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled("cpu"):
        return False
    return suits(weight, stride, padding, MIN_CHANNELS) and multiplications_saved(x, BLOCK, WEIGHTS) >= MIN_SAVED


class _Winograd(torch.autograd.Function):
    """Keeps the input and the weight alone: points are cheaper to compute again than to remember."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        (grad,) = grads
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            # The gradient of the input is a convolution too, by the filters turned round.
            _convolve(grad, weight.flip(2, 3).transpose(0, 1), None) if needs_x else None,
            weight_gradient(x, grad) if needs_weight else None,
            grad.sum(dim=(0, 2, 3)) if needs_bias else None,
        )


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    onednn = _onednn(x.dtype)
    multiply = point_products(weight, bias, BLOCK, x.dtype) if onednn else _products(weight, bias)
    return convolve(x, multiply, weight.shape[0], transforms(x.dtype), BLOCK)


def _products(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """As `point_products`, of PyTorch's public parts."""
    to = transforms(weight.dtype)
    filters = (to.weight @ weight.flatten(2).permute(2, 1, 0).flatten(1)).view(POINTS, weight.shape[1], -1)
    biases = weight.new_zeros(POINTS, 1, 1) if bias is None else to.constant[:, None, None] * bias
    return lambda points: torch.baddbmm(biases, points.transpose(0, 1), filters).transpose(0, 1)


def weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """[O, C, 3, 3], of a weight whose convolution with x [N, C, H, W] has the gradient `grad` [N, O, H, W]."""
    to = transforms(x.dtype)
    filters = x.new_zeros(POINTS, grad.shape[1], x.shape[1])
    for maps, tiling in Tiling(x.shape[0], x.shape[2], x.shape[3]).parts(BLOCK):
        cells, outputs = tiling.cells(x[maps]), tiling.split(grad[maps])
        for tiles in torch.split(torch.arange(tiling.count), BLOCK):
            points = for_each(to.window, F.embedding(tiling.windows(tiles), cells))  # [t, 36, C]
            products = for_each(to.output.T, outputs[tiles[0] : tiles[-1] + 1])  # [t, 36, O]
            filters.baddbmm_(products.permute(1, 2, 0), points.transpose(0, 1))
    taps = (to.weight.T @ filters.flatten(1)).view(TAPS, TAPS, *filters.shape[1:])
    return taps.permute(2, 3, 0, 1).contiguous()


@cache
def _onednn(dtype: torch.dtype) -> bool:
    return dtype == torch.float32 and onednn_fault(dtype) is None and winograd_fault(dtype) is None
