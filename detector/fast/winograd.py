"""3×3 convolutions by Winograd's minimal filtering, for maps large enough to gain by it (`algebra/winograd_tiles.py`).

RoIs' maps, which are small, have a way of their own (`whole_maps.py`).
"""

import torch
from torch import Tensor, nn

from detector.fast.algebra.winograd_tiles import convolve, multiplications_saved, transforms
from detector.fast.convolution import Execution, FusedConv
from detector.fast.products import Products, grouped_products


class WinogradConv(nn.Module):
    """A 3×3 convolution of stride 1 with padding 1, bias, and where wanted a residual and a ReLU.

    Args:
        weight: [O, C, 3, 3], any float type.
        bias: [O] or None.
        relu: apply a ReLU at the end.
        execution: type and kernels.
        block: how many tiles are computed together, always: packed weights fit one number of rows.
        min_saved: how many times fewer multiplications it takes to make up for moving the tiles about; maps on which
            fewer are saved are convolved directly.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, relu: bool, execution: Execution, block: int, min_saved: float
    ) -> None:
        super().__init__()
        self.direct = FusedConv(weight, bias, 1, 1, relu, execution)
        self.channels = weight.shape[0]
        self.block = block
        self.min_saved = min_saved
        self.transforms = transforms(execution.dtype)
        exact = None if bias is None else bias.detach().double()
        self.multiply = point_products(weight.detach().double(), exact, block, execution.dtype, execution.onednn)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """[N, C, H, W] to [N, O, H', W'], both channels-last; the residual may be overwritten."""
        if multiplications_saved(x, self.block) < self.min_saved:
            return self.direct(x, residual)
        relu_now = self.direct.relu and residual is None
        out = convolve(x, self.multiply, self.channels, self.transforms, self.block, relu_now)
        if residual is None:
            return out
        out += residual
        return out.relu_() if self.direct.relu else out


def point_products(weight: Tensor, bias: Tensor | None, block: int, dtype: torch.dtype, onednn: bool) -> Products:
    """Make the matrix products over the channels at each of the 36 points.

    Args:
        weight: [O, C, 3, 3]; it is transformed in its own type.
        bias: [O] of that type, or None.
        block: how many tiles each call takes.
        dtype: type of the products.
        onednn: compute them with oneDNN's kernels.
    """
    to = transforms(weight.dtype)
    points = to.weight @ weight.flatten(2).permute(2, 0, 1).flatten(1)
    biases = None if bias is None else to.constant[:, None] * bias
    return grouped_products(points.to(dtype).view(-1, *weight.shape[:2]), biases, block, onednn)
