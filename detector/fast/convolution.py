"""A convolution with bias, the shortcut's addition and the ReLU, in as few passes as the device offers."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.fast.onednn import PackedWeight


@dataclass(frozen=True)
class Execution:
    """How the fused network computes.

    dtype: of weights and activations. onednn: run convolutions through oneDNN's fused kernels (`onednn_fault`).
    winograd: multiply less in 3×3 convolutions, of large maps and of RoIs (`winograd_fault`); only with oneDNN.
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


@dataclass(frozen=True)
class RoIMaps:
    """Square maps, one for each RoI. count: that usually come together. size: rows and columns."""

    count: int
    size: int

    def after(self, stride: int) -> "RoIMaps":
        """What a convolution leaves of them that has 1×1 taps, or 3×3 and a padding of 1."""
        return RoIMaps(self.count, -(-self.size // stride))


class FusedConv(nn.Module):
    """Convolution, bias, and where wanted a residual and a ReLU.

    Args:
        weight: [O, C, k, k], any float type.
        bias: [O] or None.
        stride, padding: of the convolution, both axes.
        relu: apply a ReLU at the end.
        execution: type and kernels.
        maps: what it is mostly applied to, where that is always of one size.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        stride: int,
        padding: int,
        relu: bool,
        execution: Execution,
        maps: RoIMaps | None = None,
    ) -> None:
        super().__init__()
        weight = weight.detach().to(execution.dtype, memory_format=torch.channels_last, copy=True)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", None if bias is None else bias.detach().to(execution.dtype, copy=True))
        self.stride = stride
        self.padding = padding
        self.relu = relu
        self.onednn = execution.onednn
        self.is_pointwise = weight.shape[2:] == (1, 1) and (stride, padding) == (1, 0)
        # Packing anew costs 2 to 6 % of a call; for maps of many sizes there is no other way, since at sizes for which
        # it was not made oneDNN's layout is up to three times slower.
        self.packed: PackedWeight | None = None
        if maps is not None and execution.onednn:
            count, rows, columns = maps.count, maps.size, maps.size
            if self.is_pointwise:
                count, rows, columns = 1, count * rows * columns, 1  # as `_in_one_column`
            self.packed = PackedWeight(weight, stride, padding, 1, (count, weight.shape[1], rows, columns))

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
        count, _, rows, columns = x.shape
        if self.is_pointwise:
            x = _in_one_column(x)
            out = self._call(x, None if residual is None else _in_one_column(residual))
            return out.permute(0, 2, 3, 1).view(count, rows, columns, -1).permute(0, 3, 1, 2)
        return self._call(x, residual)

    def _call(self, x: Tensor, residual: Tensor | None) -> Tensor:
        weight = self.weight if self.packed is None or x.shape != self.packed.size else self.packed.packed
        shape = ([self.padding] * 2, [self.stride] * 2, [1, 1], 1)
        if residual is None:
            end = "relu" if self.relu else "none"
            return torch.ops.mkldnn._convolution_pointwise(x, weight, self.bias, *shape, end, [], None)
        relu = "relu" if self.relu else None
        return torch.ops.mkldnn._convolution_pointwise_.binary(
            residual, x, weight, self.bias, *shape, "add", 1.0, relu, [], None
        )


def _in_one_column(x: Tensor) -> Tensor:
    """[N, C, H, W] channels-last as one map of N·H·W rows, in which oneDNN finds better blocks; no copy."""
    return x.permute(0, 2, 3, 1).reshape(1, -1, 1, x.shape[1]).permute(0, 3, 1, 2)


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
    x = torch.randn(2, 16, 6, 6, generator=generator).to(dtype, memory_format=torch.channels_last)
    bias = torch.randn(32, generator=generator)
    pairs = []
    try:
        for kernel, stride in ((3, 2), (1, 1)):
            weight = torch.randn(32, 16, kernel, kernel, generator=generator) / (4 * kernel)
            side = 6 // stride
            residual = torch.randn(2, 32, side, side, generator=generator).to(dtype, memory_format=torch.channels_last)
            for maps in (None, RoIMaps(2, 6)):
                settings = (weight, bias, stride, kernel // 2, True)
                fused = FusedConv(*settings, Execution(dtype, onednn=True), maps)
                plain = FusedConv(*settings, Execution(dtype, onednn=False))
                pairs += [(fused(x), plain(x)), (fused(x, residual.clone()), plain(x, residual.clone()))]
    except (AttributeError, RuntimeError) as error:
        return str(error).splitlines()[0]
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    if any(not torch.allclose(fused.float(), plain.float(), tolerance, tolerance) for fused, plain in pairs):
        return "their results are wrong on this processor"
    return None
