"""Winograd's 3×3 convolutions with gradients: forward and backward with a quarter of the multiplications."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.fast.algebra.minimal_filtering import for_each
from detector.fast.algebra.winograd_tiles import POINTS, TAPS, Tiling, convolve, transforms
from detector.fast.choose import TRAINING_BLOCK, has_kernels, has_products, subsamples_first, training_tiles_pay
from detector.fast.winograd import point_products


def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, dilation: int = 1, groups: int = 1
) -> Tensor:
    """A convolution as `torch.nn.functional.conv2d` computes it, with gradients; by tiles where these are faster.

    Args:
        x: [N, C, H, W], best channels-last.
        weight: [O, C / groups, k, k].
        bias: [O] or None.
        stride, padding, dilation: of the convolution, both axes.
        groups: of the convolution.

    Returns:
        [N, O, H', W'].
    """
    if subsamples_first(x, weight, stride, padding):
        x, stride = x[:, :, ::stride, ::stride], 1
    if dilation > 1 or groups > 1 or not training_tiles_pay(x, weight, stride, padding):
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    out: Tensor = _Winograd.apply(x, weight, bias)
    return out


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
    # In float64 by PyTorch's public parts.
    onednn = x.dtype == torch.float32 and has_kernels(x.dtype) and has_products(x.dtype)
    multiply = point_products(weight, bias, TRAINING_BLOCK, x.dtype, onednn)
    return convolve(x, multiply, weight.shape[0], transforms(x.dtype), TRAINING_BLOCK)


def weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """The gradient [O, C, 3, 3] of a weight, from the input x [N, C, H, W] and the output's gradient [N, O, H, W]."""
    to = transforms(x.dtype)
    filters = x.new_zeros(POINTS, grad.shape[1], x.shape[1])
    for maps, tiling in Tiling(x.shape[0], x.shape[2], x.shape[3]).parts(TRAINING_BLOCK):
        cells, outputs = tiling.cells(x[maps]), tiling.split(grad[maps])
        for tiles in torch.split(torch.arange(tiling.count), TRAINING_BLOCK):
            points = for_each(to.window, F.embedding(tiling.windows(tiles), cells))  # [t, 36, C]
            products = for_each(to.output.T, outputs[tiles[0] : tiles[-1] + 1])  # [t, 36, O]
            filters.baddbmm_(products.permute(1, 2, 0), points.transpose(0, 1))
    taps = (to.weight.T @ filters.flatten(1)).view(TAPS, TAPS, *filters.shape[1:])
    return taps.permute(2, 3, 0, 1).contiguous()
