"""A convolution with bias, the shortcut's addition and the ReLU, in as few passes as the device offers."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Execution:
    """How the fused network computes.

    dtype: of weights and activations. onednn: run convolutions through oneDNN's fused kernels (`onednn_fault`).
    winograd: multiply less in large 3×3 convolutions (`winograd_fault`); only with oneDNN.
    """

    dtype: torch.dtype
    onednn: bool
    winograd: bool = False

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
