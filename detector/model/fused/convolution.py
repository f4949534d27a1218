"""A convolution with the norm after it, the shortcut's addition and the ReLU, in as few passes as the device offers."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.model.resnet import NORM_EPS, FrozenBatchNorm2d

BATCH_NORMS = (FrozenBatchNorm2d, nn.BatchNorm2d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Execution:
    """How the fused network computes.

    dtype: of weights and activations. onednn: run convolutions through oneDNN's fused kernels (`onednn_fault`).
    """

    dtype: torch.dtype
    onednn: bool

    @property
    def precision(self) -> torch.dtype:
        """Of what bfloat16 would spoil at no gain: pooling weights, biases added to pooled values, scores, boxes."""
        return torch.promote_types(self.dtype, torch.float32)

    def channels_last(self, x: Tensor) -> Tensor:
        """[N, C, H, W] in this type and in the memory order N, H, W, C."""
        return x.to(self.dtype, memory_format=torch.channels_last)


class FusedConv(nn.Module):
    """Convolution, bias, and where wanted a residual and a ReLU.

    Args:
        weight: [O, C, k, k], any float type.
        bias: [O] or None.
        stride, padding: of the convolution, both axes.
        relu: apply a ReLU at the end.
        execution: type and kernels.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self, weight: Tensor, bias: Tensor | None, stride: int, padding: int, relu: bool, execution: Execution
    ) -> None:
        super().__init__()
        weight = weight.detach().to(execution.dtype, memory_format=torch.channels_last, copy=True)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", None if bias is None else bias.detach().to(execution.dtype, copy=True))
        self.stride = stride
        self.padding = padding
        self.relu = relu
        self.onednn = execution.onednn

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """[N, C, H, W] channels-last to [N, O, H', W'] channels-last; `residual`, of the result's shape, may be
        overwritten."""
        if self.onednn:
            return self._onednn(x, residual)
        out = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        if residual is not None:
            out += residual
        return out.relu_() if self.relu else out

    def _onednn(self, x: Tensor, residual: Tensor | None) -> Tensor:
        # Not packed beforehand: oneDNN's packed layout fits one input size and is up to three times slower at others,
        # while packing anew costs 2 to 4 % of a call.
        shape = ([self.padding] * 2, [self.stride] * 2, [1, 1], 1)
        if residual is None:
            end = "relu" if self.relu else "none"
            return torch.ops.mkldnn._convolution_pointwise(x, self.weight, self.bias, *shape, end, [], None)
        relu = "relu" if self.relu else None
        return torch.ops.mkldnn._convolution_pointwise_.binary(
            residual, x, self.weight, self.bias, *shape, "add", 1.0, relu, [], None
        )


class NormedConv(nn.Module):
    """A convolution and a norm that cannot be folded into it (group norm), residual and ReLU."""

    def __init__(self, conv: FusedConv, norm: nn.Module, relu: bool) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm
        self.relu = relu

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """As `FusedConv.forward`."""
        out = normalize_channels_last(self.norm, self.conv(x))
        if residual is not None:
            out += residual
        return out.relu_() if self.relu else out


class BiasReLU(nn.Module):
    """What a folded norm leaves to do where its convolution ran elsewhere without bias."""

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
    """A norm that cannot be folded, apart from its convolution."""

    def __init__(self, norm: nn.Module, relu: bool) -> None:
        super().__init__()
        self.norm = norm
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        out = normalize_channels_last(self.norm, x)
        return out.relu_() if self.relu else out


def normalize_channels_last(norm: nn.Module, x: Tensor) -> Tensor:
    """Group norm of a channels-last map. PyTorch's own kernel for it subtracts squares, which costs two digits."""
    return norm(x.contiguous()).contiguous(memory_format=torch.channels_last)


Unit = FusedConv | NormedConv


def fuse_conv(
    conv: nn.Conv2d, norm: nn.Module | None, relu: bool, execution: Execution, extra_bias: Tensor | None = None
) -> Unit:
    """One unit of a convolution, the norm after it (None: there is none) and, with `relu`, a ReLU.

    extra_bias: [O], to be added after the norm as well; only with a norm that can be folded.
    """
    stride, padding = conv.stride[0], int(conv.padding[0])
    weight, bias = fold_norm(conv, norm)
    if norm is None or is_foldable(norm):
        if extra_bias is not None:
            assert bias is not None
            bias = bias + extra_bias
        return FusedConv(weight, bias, stride, padding, relu, execution)
    assert extra_bias is None
    plain = FusedConv(weight, bias, stride, padding, False, execution)
    return NormedConv(plain, copy.deepcopy(norm).to(execution.dtype), relu)


def linear_part(conv: nn.Conv2d, norm: nn.Module, execution: Execution) -> FusedConv:
    """A 1×1 convolution and the factors of its norm, at stride 1 and without bias: what commutes with RoIAlign."""
    weight, _ = fold_norm(conv, norm)
    return FusedConv(weight, None, 1, 0, False, execution)


def remaining_part(conv: nn.Conv2d, norm: nn.Module, relu: bool, execution: Execution) -> nn.Module:
    """What `linear_part` leaves to do."""
    _, bias = fold_norm(conv, norm)
    if bias is not None:
        return BiasReLU(bias, relu, execution)
    return NormReLU(copy.deepcopy(norm).to(execution.precision), relu)


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
    scale = norm.weight / torch.sqrt(norm.running_var + NORM_EPS)
    return scale, norm.bias - norm.running_mean * scale


def fold_norm(conv: nn.Conv2d, norm: nn.Module | None) -> tuple[Tensor, Tensor | None]:
    """Weight and bias, float64, of a convolution with its norm folded in; of the convolution alone where it cannot be.

    Batch norm with its stored statistics: y = (W·x + b − mean) · s + β with s = γ / √(var + ε).
    """
    weight = conv.weight.detach().double()
    bias = None if conv.bias is None else conv.bias.detach().double()
    if norm is None or not is_foldable(norm):
        return weight, bias
    affine = fixed_affine(copy.deepcopy(norm).double().eval())
    assert affine is not None
    scale, offset = affine[0].detach(), affine[1].detach()
    return weight * scale.view(-1, 1, 1, 1), offset if bias is None else offset + bias * scale


def onednn_fault(dtype: torch.dtype) -> str | None:
    """Why this PyTorch's fused oneDNN convolutions cannot be used.

    They are no public interface, so they are tried before they are relied on.

    Returns:
        None when they are there and compute what they should, else the reason in a few words.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return "PyTorch was built without oneDNN"
    if dtype not in (torch.float32, torch.bfloat16):
        return f"oneDNN has no {dtype} convolutions"
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 16, 6, 5, generator=generator).to(dtype, memory_format=torch.channels_last)
    weight = torch.randn(32, 16, 3, 3, generator=generator) / 12
    bias = torch.randn(32, generator=generator)
    residual = torch.randn(2, 32, 3, 3, generator=generator).to(dtype, memory_format=torch.channels_last)

    def run(onednn: bool, other: Tensor | None) -> Tensor:
        conv = FusedConv(weight, bias, 2, 1, True, Execution(dtype, onednn))
        return conv(x, None if other is None else other.clone(memory_format=torch.preserve_format))

    return _disagreement(run, residual)


def _disagreement(run: Callable[[bool, Tensor | None], Tensor], residual: Tensor) -> str | None:
    try:
        pairs = [(run(True, other), run(False, other)) for other in (None, residual)]
    except (AttributeError, RuntimeError) as error:
        return str(error).splitlines()[0]
    tolerance = 1e-4 if residual.dtype == torch.float32 else 5e-2
    if any(not torch.allclose(fused.float(), plain.float(), tolerance, tolerance) for fused, plain in pairs):
        return "their results are wrong on this processor"
    return None
