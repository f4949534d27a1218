"""A convolution with the norm after it, or what remains of the two when they are taken apart."""

import copy

import torch
from torch import Tensor, nn

from detector.fast.choose import TILE_BLOCK, Conv, choose_convolution
from detector.fast.convolution import Execution, FusedConv, RoIMaps
from detector.fast.group_norm import is_by_kernel, normalize
from detector.model import fpn
from detector.model.blocks import FrozenBatchNorm2d

BATCH_NORMS = (FrozenBatchNorm2d, nn.BatchNorm2d, nn.SyncBatchNorm)


class NormedConv(nn.Module):
    """A convolution and a norm that cannot be folded into it (group norm), residual and ReLU.

    Args:
        conv: without a ReLU.
        norm: after it.
        relu: apply a ReLU at the end.
        timed: on a GPU, try which kernel is the faster.
    """

    def __init__(self, conv: Conv, norm: nn.Module, relu: bool, timed: bool = False) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm
        self.relu = relu
        self.timed = timed

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """[N, C, H, W] to [N, O, H', W'], both channels-last; the residual may be overwritten."""
        out = normalize_channels_last(self.norm, self.conv(x), self.relu and residual is None, self.timed)
        if residual is None:
            return out
        out += residual
        return out.relu_() if self.relu else out


class BiasReLU(nn.Module):
    """What a folded norm leaves to do where its convolution ran elsewhere without bias.

    Args:
        bias: [O].
        relu: apply a ReLU at the end.
        execution: its precision is that of the bias.
    """

    bias: Tensor

    def __init__(self, bias: Tensor, relu: bool, execution: Execution) -> None:
        super().__init__()
        self.register_buffer("bias", bias.detach().to(execution.precision).view(-1, 1, 1))
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """Changes [N, O, H, W] in place and returns it."""
        x += self.bias
        return x.relu_() if self.relu else x


class NormReLU(nn.Module):
    """A norm that cannot be folded, apart from its convolution; with `relu`, a ReLU after it.

    It computes in the execution's precision, whatever type the maps were pooled in: a GPU has no norm of mixed types.
    """

    def __init__(self, norm: nn.Module, relu: bool, execution: Execution) -> None:
        super().__init__()
        self.precision = execution.precision
        self.norm = copy.deepcopy(norm).to(self.precision)
        self.relu = relu
        self.timed = execution.timed

    def forward(self, x: Tensor) -> Tensor:
        """[N, O, H, W] to a new tensor of the same size."""
        return normalize_channels_last(self.norm, x.to(self.precision), self.relu, self.timed)


def normalize_channels_last(norm: nn.Module, x: Tensor, relu: bool, timed: bool) -> Tensor:
    """A norm of [N, O, H, W] and where wanted a ReLU, channels-last in and out. timed: as for `NormedConv`.

    Without our kernel it is computed in the usual memory order: PyTorch's channels-last kernel for group norm subtracts
    squares, which costs two digits.
    """
    if timed and is_by_kernel(norm, x):
        return normalize(norm, x, relu)
    out: Tensor = norm(x.contiguous()).contiguous(memory_format=torch.channels_last)
    return out.relu_() if relu else out


Unit = Conv | NormedConv


def fuse_conv(
    conv: nn.Conv2d,
    norm: nn.Module | None,
    relu: bool,
    execution: Execution,
    extra_bias: Tensor | None = None,
    maps: RoIMaps | None = None,
    tiles: int = TILE_BLOCK,
) -> Unit:
    """One unit of a convolution, the norm after it and a ReLU.

    Args:
        conv: its stride, padding and dilation are the same on both axes.
        norm: after it, or None.
        relu: whether there is a ReLU.
        execution: type and kernels.
        extra_bias: [O], to be added after the norm as well; only with a norm that can be folded.
        maps: what it is applied to, where that is nearly always of one size.
        tiles: that are computed together, where it is computed by tiles.
    """
    weight, bias = fold_norm(conv, norm)
    stride, padding = conv.stride[0], int(conv.padding[0])
    others = (conv.dilation[0], conv.groups, tiles)
    if norm is None or is_foldable(norm):
        if extra_bias is not None:
            assert bias is not None
            bias = bias + extra_bias
        return choose_convolution(weight, bias, stride, padding, relu, execution, maps, *others)
    assert extra_bias is None
    plain = choose_convolution(weight, bias, stride, padding, False, execution, maps, *others)
    return NormedConv(plain, copy.deepcopy(norm).to(execution.dtype), relu, execution.timed)


def fuse_normed(
    conv: nn.Module, relu: bool, execution: Execution, maps: RoIMaps | None = None, tiles: int = TILE_BLOCK
) -> Unit:
    """One unit of a `detector.model.fpn.NormedConv`; arguments as of `fuse_conv`."""
    assert isinstance(conv, fpn.NormedConv)
    norm = None if isinstance(conv.norm, nn.Identity) else conv.norm
    return fuse_conv(conv.conv, norm, relu, execution, maps=maps, tiles=tiles)


def linear_part(conv: nn.Conv2d, norm: nn.Module, execution: Execution) -> tuple[FusedConv, Tensor | None]:
    """A 1×1 convolution and the factors of its norm, at stride 1 and without bias: what commutes with RoIAlign.

    And the bias [O] that is left, float64; None where the norm cannot be folded, and all of it is left.
    """
    weight, bias = fold_norm(conv, norm)
    return FusedConv(weight, None, 1, 0, False, execution), bias


def remaining_part(bias: Tensor | None, norm: nn.Module, relu: bool, execution: Execution) -> nn.Module:
    """What remains to be done after `linear_part`, which gave this bias, and where wanted a ReLU."""
    return NormReLU(norm, relu, execution) if bias is None else BiasReLU(bias, relu, execution)


def is_foldable(norm: nn.Module) -> bool:
    """Whether a norm is an affine map per channel, with its stored statistics."""
    return isinstance(norm, BATCH_NORMS)


def fixed_affine(norm: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Scale and offset [O] of a norm that maps y = x · scale + offset, with gradient to what it trains.

    None for those that look at their input: group norm, and batch norm while it trains.
    """
    if not isinstance(norm, BATCH_NORMS) or (norm.training and not isinstance(norm, FrozenBatchNorm2d)):
        return None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def fold_norm(conv: nn.Conv2d, norm: nn.Module | None) -> tuple[Tensor, Tensor | None]:
    """Weight [O, C, k, k] and bias [O] or None, float64, of a convolution with its norm folded in.

    A norm that cannot be folded is left out. Batch norm with its stored statistics is
    y = (W·x + b − mean) · s + β with s = γ / √(var + ε).
    """
    weight = conv.weight.detach().double()
    bias = None if conv.bias is None else conv.bias.detach().double()
    if norm is None or not is_foldable(norm):
        return weight, bias
    affine = fixed_affine(copy.deepcopy(norm).double().eval())
    assert affine is not None
    scale, offset = affine[0].detach(), affine[1].detach()
    return weight * scale.view(-1, 1, 1, 1), offset if bias is None else offset + bias * scale
