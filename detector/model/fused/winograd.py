"""Winograd's 3×3 convolutions through oneDNN, for maps large enough to gain by them."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.model.fused.convolution import Execution, FusedConv
from detector.model.winograd import POINTS, convolve, multiplications_saved, transforms

BLOCK = 64  # tiles that are computed together: always as many, since the packing of weights fits one number
MIN_CHANNELS = 128  # below, moving tiles about costs more than it saves
MIN_SAVED = 2.0  # how many times fewer multiplications it takes to make up for moving the tiles about


class WinogradConv(nn.Module):
    """A 3×3 convolution of stride 1 with padding 1, bias, and where wanted a residual and a ReLU.

    Args:
        weight: [O, C, 3, 3], any float type.
        bias: [O] or None.
        relu: apply a ReLU at the end.
        execution: type and kernels; oneDNN's are needed.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, relu: bool, execution: Execution) -> None:
        super().__init__()
        self.direct = FusedConv(weight, bias, 1, 1, relu, execution)
        self.channels = weight.shape[0]
        self.transforms = transforms(execution.dtype)
        self.multiply = PointProducts(weight.detach().double(), BLOCK, execution.dtype)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """As `FusedConv.forward`."""
        if multiplications_saved(x, BLOCK) < MIN_SAVED:
            return self.direct(x, residual)
        out = convolve(x, self.multiply, self.channels, self.direct.bias, self.transforms, BLOCK)
        if residual is not None:
            out += residual
        return out.relu_() if self.direct.relu else out


class PointProducts:
    """At each of the 36 points a matrix product over the channels; all of them are one convolution in groups.

    Args:
        weight: [O, C, 3, 3]; it is transformed in its own type.
        block: tiles of a call.
        dtype: of the products.
    """

    def __init__(self, weight: Tensor, block: int, dtype: torch.dtype) -> None:
        points = transforms(weight.dtype).weight @ weight.flatten(2).permute(2, 0, 1).flatten(1)
        self.block = block
        self.packed = self._pack(points.to(dtype).view(-1, weight.shape[1], 1, 1))

    def _pack(self, filters: Tensor) -> Tensor:
        """[36·O, C, 1, 1] in oneDNN's own layout, which makes a third of the time: others are changed into it at each
        call."""
        filters = filters.contiguous(memory_format=torch.channels_last)
        size = [1, POINTS * filters.shape[1], self.block, 1]
        packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(filters, [0, 0], [1, 1], [1, 1], POINTS, size)
        return packed

    def __getstate__(self) -> dict[str, Any]:
        return {"block": self.block, "filters": self.packed.to_dense()}  # the layout cannot be copied, nor pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.block = state["block"]
        self.packed = self._pack(state["filters"])

    def __call__(self, points: Tensor) -> Tensor:
        """[block, 36, C] to [block, 36, O]."""
        x = points.view(1, self.block, 1, -1).permute(0, 3, 1, 2)
        shape = ([0, 0], [1, 1], [1, 1], POINTS)
        out = torch.ops.mkldnn._convolution_pointwise(x, self.packed, None, *shape, "none", [], None)
        return out.permute(0, 2, 3, 1).view(self.block, POINTS, -1)


def winograd_fault(dtype: torch.dtype) -> str | None:
    """As `onednn_fault`, of the kernels that are used here; ask that first."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 16, 32, 32, generator=generator).to(dtype, memory_format=torch.channels_last)
    weight = torch.randn(16, 16, 3, 3, generator=generator) / 12
    try:
        found = WinogradConv(weight, None, False, Execution(dtype, onednn=True))(x)
    except (AttributeError, RuntimeError) as error:
        return str(error).splitlines()[0]
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    if torch.allclose(found, F.conv2d(x, weight.to(dtype), padding=1), tolerance, tolerance):
        return None
    return "their results are wrong on this processor"
