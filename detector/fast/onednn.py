"""oneDNN's fused kernels as PyTorch carries them. No other file names `torch.ops.mkldnn`.

They are no public interface and not on every processor, so `onednn_fault` tries them before anything relies on them.

A weight has to be in a layout of oneDNN's own, which fits one size of input. Given in another layout it is changed at
each call, which takes 2 to 6 % of the call; in the layout for another size the call takes up to three times as long.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

InputSize = tuple[int, int, int, int]  # N, C, H, W


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: int,
    relu: bool = False,
    residual: Tensor | None = None,
    groups: int = 1,
    dilation: int = 1,
) -> Tensor:
    """A convolution with bias, the addition of a residual and a ReLU in one pass.

    Args:
        x: [N, C, H, W] channels-last, float32 or bfloat16.
        weight: [O, C / groups, k, k] of that type, plain or packed for the size of x.
        bias: [O] of that type, or None.
        stride, padding, groups, dilation: of the convolution.
        relu: apply a ReLU at the end.
        residual: [N, O, H', W'] channels-last, to be added before the ReLU; it is overwritten with the result.

    Returns:
        [N, O, H', W'] channels-last.
    """
    shape = ([padding] * 2, [stride] * 2, [dilation] * 2, groups)
    if residual is None:
        end = "relu" if relu else "none"
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *shape, end, [], None)
    return torch.ops.mkldnn._convolution_pointwise_.binary(
        residual, x, weight, bias, *shape, "add", 1.0, "relu" if relu else None, [], None
    )


def product(
    x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool = False, residual: Tensor | None = None
) -> Tensor:
    """The matrix product of rows [R, C] with a weight [O, C], plain or packed for R rows, to [R, O].

    bias, relu and residual as in `convolution`; the residual, [R, O], is left as it is.
    """
    if residual is None:
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu" if relu else "none", [], None)
    out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, weight, bias, "add")
    return out.relu_() if relu else out


class PackedWeight:
    """A convolution's weight in oneDNN's layout for one size of input; can be copied and pickled.

    Args:
        weight: [O, C, k, k] float32 or bfloat16; in groups, C is of one group.
        stride, padding, groups: of the convolution.
        size: of its input, [N, C, H, W], C of all groups.
    """

    def __init__(self, weight: Tensor, stride: int, padding: int, groups: int, size: InputSize) -> None:
        self.stride = stride
        self.padding = padding
        self.groups = groups
        self.size = size
        self.packed = self._pack(weight)

    def dense(self) -> Tensor:
        """A copy of the weight, bit for bit, in PyTorch's own layout and in the shape it was given in."""
        return self.packed.to_dense().contiguous(memory_format=torch.channels_last)

    def _pack(self, weight: Tensor) -> Tensor:
        shape = ([self.padding] * 2, [self.stride] * 2, [1, 1], self.groups, list(self.size))
        weight = weight.contiguous(memory_format=torch.channels_last)
        packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(weight, *shape)
        return packed

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"packed": self.packed.to_dense()}  # the layout cannot be copied, nor pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.packed = self._pack(state["packed"])


class PackedMatrix:
    """A matrix product's weight in oneDNN's layout for one number of rows; can be copied and pickled.

    Args:
        weight: [O, C] float32 or bfloat16.
        rows: of the matrix on the left.
    """

    def __init__(self, weight: Tensor, rows: int) -> None:
        self.rows = rows
        self.packed = self._pack(weight)

    def dense(self) -> Tensor:
        """A copy of the weight, bit for bit, in PyTorch's own layout and in the shape it was given in."""
        return self.packed.to_dense()

    def _pack(self, weight: Tensor) -> Tensor:
        packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), self.rows)
        return packed

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"packed": self.dense()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.packed = self._pack(state["packed"])


class PackedProducts:
    """Products of G pairs of matrices: all of them are one 1×1 convolution in groups.

    Args:
        filters: [G, O, C].
        bias: [G, O] or None, to be added to each row.
        rows: of each matrix on the left.
    """

    def __init__(self, filters: Tensor, bias: Tensor | None, rows: int) -> None:
        groups, _, channels = filters.shape
        size = (1, groups * channels, rows, 1)
        self.weight = PackedWeight(filters.flatten(0, 1)[:, :, None, None], 1, 0, groups, size)
        self.bias = None if bias is None else bias.flatten().to(filters.dtype)

    @property
    def groups(self) -> int:
        """G."""
        return self.weight.groups

    @property
    def rows(self) -> int:
        """Rows of each matrix on the left."""
        return self.weight.size[2]

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, G, C] to [rows, G, O]."""
        x = x.view(1, self.rows, 1, -1).permute(0, 3, 1, 2)
        out = convolution(x, self.weight.packed, self.bias, 1, 0, groups=self.groups)
        return out.permute(0, 2, 3, 1).view(self.rows, self.groups, -1)


def onednn_fault(dtype: torch.dtype) -> str | None:
    """Why oneDNN's fused convolutions cannot be used here in this type.

    Returns:
        None when they are there and compute what they should, else the reason in a few words.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return "PyTorch was built without oneDNN"
    if dtype not in (torch.float32, torch.bfloat16):
        return f"oneDNN has no {dtype} convolutions"
    try:
        pairs = [pair for kernel, stride in ((3, 2), (1, 1)) for pair in _results(kernel, stride, dtype)]
    except (AttributeError, RuntimeError) as error:
        return str(error).splitlines()[0]
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    if any(not torch.allclose(out.float(), expected, tolerance, tolerance) for out, expected in pairs):
        return "their results are wrong on this processor"
    return None


def _results(kernel: int, stride: int, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """What oneDNN computes of a small convolution, weights plain and packed, and what PyTorch does in float32."""
    generator = torch.Generator().manual_seed(0)
    padding, side = kernel // 2, 6 // stride
    x = torch.randn(2, 16, 6, 6, generator=generator).to(dtype, memory_format=torch.channels_last)
    residual = torch.randn(2, 32, side, side, generator=generator).to(dtype, memory_format=torch.channels_last)
    weight = torch.randn(32, 16, kernel, kernel, generator=generator) / (4 * kernel)
    weight = weight.to(dtype, memory_format=torch.channels_last)
    bias = torch.randn(32, generator=generator).to(dtype)
    exact = F.conv2d(x.float(), weight.float(), bias.float(), stride, padding)
    results = []
    for layout in (weight, PackedWeight(weight, stride, padding, 1, (2, 16, 6, 6)).packed):
        out = convolution(x, layout, bias, stride, padding, relu=True)
        joined = convolution(x, layout, bias, stride, padding, relu=True, residual=residual.clone())
        results += [(out, exact.relu()), (joined, (exact + residual.float()).relu())]
    return results
