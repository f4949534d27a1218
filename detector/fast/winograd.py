"""Winograd's 3×3 convolutions through oneDNN, of maps large enough to gain by them; of RoIs' maps, `small_maps.py`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.fast.algebra.tiles import convolve, multiplications_saved, transforms
from detector.fast.convolution import Execution, FusedConv, RoIMaps
from detector.fast.onednn import GroupedProducts
from detector.fast.whole_maps import SmallMapConv

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
        exact = None if bias is None else bias.detach().double()
        self.multiply = point_products(weight.detach().double(), exact, BLOCK, execution.dtype)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """As `FusedConv.forward`."""
        if multiplications_saved(x, BLOCK) < MIN_SAVED:
            return self.direct(x, residual)
        out = convolve(x, self.multiply, self.channels, self.transforms, BLOCK)
        if residual is not None:
            out += residual
        return out.relu_() if self.direct.relu else out


def point_products(weight: Tensor, bias: Tensor | None, block: int, dtype: torch.dtype) -> GroupedProducts:
    """At each of the 36 points a matrix product over the channels.

    Args:
        weight: [O, C, 3, 3]; it is transformed in its own type.
        bias: [O] of that type, or None.
        block: tiles of a call.
        dtype: of the products.
    """
    to = transforms(weight.dtype)
    points = to.weight @ weight.flatten(2).permute(2, 0, 1).flatten(1)
    biases = None if bias is None else to.constant[:, None] * bias
    return GroupedProducts(points.to(dtype).view(-1, *weight.shape[:2]), biases, block)


def winograd_fault(dtype: torch.dtype) -> str | None:
    """As `onednn_fault`, of the kernels that are used here and for RoIs' maps; ask that first."""
    generator = torch.Generator().manual_seed(0)
    whole, maps = (torch.randn(*size, generator=generator) for size in ((1, 16, 32, 32), (4, 16, 14, 14)))
    weight = torch.randn(16, 16, 3, 3, generator=generator) / 12
    execution, of_rois = Execution(dtype, onednn=True), RoIMaps(4, 14)
    try:
        convs: list[tuple[nn.Module, Tensor, int]] = [(WinogradConv(weight, None, False, execution), whole, 1)]
        convs += [(SmallMapConv(weight, None, s, False, execution, of_rois), maps, s) for s in (1, 2)]
        pairs = [
            (conv(execution.channels_last(x)), F.conv2d(x.to(dtype), weight.to(dtype), stride=stride, padding=1))
            for conv, x, stride in convs
        ]
    except (AttributeError, RuntimeError) as error:
        return str(error).splitlines()[0]
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    if all(torch.allclose(found, expected, tolerance, tolerance) for found, expected in pairs):
        return None
    return "their results are wrong on this processor"
