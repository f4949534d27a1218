"""3×3 convolutions of RoIs' maps by minimal filtering, through oneDNN."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.fast.algebra.minimal_filtering import for_each
from detector.fast.algebra.tiles import TAPS
from detector.fast.algebra.whole_axes import LONG, SHORT, Share, all_cells, constants, odd_cells, together
from detector.fast.convolution import Execution, FusedConv, RoIMaps
from detector.fast.onednn import GroupedProducts

MIN_CHANNELS = 128  # below, transforming the maps costs more than it saves
MAX_OUTPUTS = 14  # along an axis; there are weights for each pair of a row and a column
MIN_SAVED = 1.4  # how many times fewer multiplications it takes to make up for transforming the maps

MIDDLE = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)  # the weight of a point that takes this tap alone

EVERY, EVEN, ODD = slice(None), slice(0, None, 2), slice(1, None, 2)


class SmallMapConv(nn.Module):
    """A 3×3 convolution with padding 1, bias, and where wanted a residual and a ReLU, of RoIs' maps.

    Args:
        weight: [O, C, 3, 3], any float type.
        bias: [O] or None.
        stride: 1 or 2.
        relu: apply a ReLU at the end.
        execution: type and kernels; oneDNN's are needed.
        maps: so many are computed together, always, since the packing of weights fits one number.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, stride: int, relu: bool, execution: Execution, maps: RoIMaps
    ) -> None:
        super().__init__()
        self.direct = FusedConv(weight, bias, stride, 1, relu, execution)
        self.block = maps.count
        weight, dtype, outputs = weight.detach().double(), execution.dtype, maps.after(stride)
        self.middle: FusedConv | None = None
        if stride == 1:
            self.parts = [Part(EVERY, EVERY, BothAxes(all_cells(maps.size), weight, bias, maps.count, dtype))]
        else:
            # A cell of even row and even column meets the middle of the filter, and no other tap.
            self.middle = FusedConv(weight[:, :, 1:2, 1:2], bias, 2, 0, False, execution, maps)
            axis = odd_cells(maps.size, LONG)
            one, turned = (OneAxis(axis, w, outputs, dtype) for w in (weight, weight.transpose(2, 3)))
            both = BothAxes(odd_cells(maps.size, SHORT), weight, None, maps.count, dtype)
            self.parts = [Part(EVEN, ODD, one), Part(ODD, EVEN, turned, turned=True), Part(ODD, ODD, both)]
        products = sum(part.products.count for part in self.parts) + (0 if self.middle is None else outputs.size**2)
        self.saved = (TAPS * outputs.size) ** 2 / products

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """As `FusedConv.forward`, of [N, C, size, size]."""
        count = x.shape[0]
        if self.saved * count < MIN_SAVED * self.block * max(1, -(-count // self.block)):
            return self.direct(x, residual)
        out = residual if self.middle is None else self.middle(x, residual)
        add = out is not None
        if out is None:
            channels = self.direct.weight.shape[0]
            out = x.new_empty(count, *x.shape[2:], channels).permute(0, 3, 1, 2)
        blocks = (torch.split(maps.permute(0, 2, 3, 1), self.block) for maps in (x, out))
        for cells, sums in zip(*blocks, strict=True):
            missing = self.block - cells.shape[0]
            whole = F.pad(cells, (0, 0, 0, 0, 0, 0, 0, missing)) if missing else cells
            for part in self.parts:
                part.put(whole, sums, add)
        return out.relu_() if self.direct.relu else out


@dataclass(frozen=True)
class Part:
    """Of the convolution what one parity of rows and columns gives. turned: rows and columns change places."""

    rows: slice
    columns: slice
    products: "OneAxis | BothAxes"
    turned: bool = False

    def put(self, cells: Tensor, sums: Tensor, add: bool) -> None:
        """What it gives of a block of maps, [block, size, size, C], in the place of `sums` of the first n of them,
        [n, outputs, outputs, O], or added to these."""
        cells = cells[:, self.rows, self.columns]
        if self.turned:
            cells, sums = cells.transpose(1, 2), sums.transpose(1, 2)
        found = self.products(cells)[: sums.shape[0]]
        if add:
            sums += found
        else:
            sums.copy_(found)


class OneAxis:
    """Products along columns, where rows meet the middle taps alone.

    Args:
        axis: along columns.
        weight: [O, C, 3, 3] float64.
        outputs: their size, and of how many maps.
        dtype: of the products.
    """

    def __init__(self, axis: Sequence[Share], weight: Tensor, outputs: RoIMaps, dtype: torch.dtype) -> None:
        columns = together(axis)
        self.window, self.output = columns.window.to(dtype), columns.output.to(dtype)
        filters = point_filters(weight, MIDDLE, columns.weight, dtype)
        self.multiply = GroupedProducts(filters, None, outputs.count * outputs.size)
        self.count = outputs.size * len(columns.window)

    def __call__(self, cells: Tensor) -> Tensor:
        """[block, rows, cells, C] to [block, rows, outputs, O]."""
        products = self.multiply(for_each(self.window, cells.flatten(0, 1)))
        return for_each(self.output, products).view(*cells.shape[:2], len(self.output), -1)


class BothAxes:
    """Products along columns and rows.

    Args:
        axis: either of the two.
        weight: [O, C, 3, 3] float64.
        bias: [O] or None.
        block: maps.
        dtype: of the products.
    """

    def __init__(
        self, axis: Sequence[Share], weight: Tensor, bias: Tensor | None, block: int, dtype: torch.dtype
    ) -> None:
        columns = together(axis)
        self.window, self.output = columns.window.to(dtype), columns.output.to(dtype)
        ones = constants(axis)
        across = torch.cat([one.repeat(share.places) for one, share in zip(ones, axis, strict=True)])
        self.rows = []
        for share, one in zip(axis, ones, strict=True):
            biases = None if bias is None else torch.outer(torch.kron(one, across), bias.double())
            filters = point_filters(weight, share.weight, columns.weight, dtype)
            self.rows.append(Rows(share, GroupedProducts(filters, biases, block * share.places), dtype))
        self.count = len(columns.window) ** 2

    def __call__(self, cells: Tensor) -> Tensor:
        """[block, cells, cells, C] to [block, outputs, outputs, O]."""
        block, size, _, _ = cells.shape
        outputs, points = self.output.shape
        columns = for_each(self.window, cells.flatten(0, 1)).view(block, size, -1)  # [block, cells, Q·C]
        sums = self.rows[0](columns)
        for rows in self.rows[1:]:
            sums += rows(columns)
        return for_each(self.output, sums.view(block * outputs, points, -1)).view(block, outputs, outputs, -1)


class Rows:
    """Of the products along rows those that share their weights, with all along columns."""

    def __init__(self, share: Share, multiply: GroupedProducts, dtype: torch.dtype) -> None:
        self.window, self.output = share.window.to(dtype), share.output.to(dtype)
        self.multiply = multiply

    def __call__(self, columns: Tensor) -> Tensor:
        """[block, cells, Q·C], transformed along columns, to a summand [block, outputs, Q·O]."""
        points = for_each(self.window, columns).view(self.multiply.rows, self.multiply.groups, -1)
        products = self.multiply(points).view(columns.shape[0], len(self.window), -1)
        return for_each(self.output, products)


def point_filters(weight: Tensor, rows: Tensor, columns: Tensor, dtype: torch.dtype) -> Tensor:
    """[O, C, 3, 3] float64 at P points along rows, whose weights are [P, 3], and Q along columns: [P·Q, O, C]."""
    taps = weight.permute(2, 3, 0, 1).flatten(2).flatten(0, 1)  # [9, O·C]
    # Row by row, since all of them in float64 would take a quarter of a gigabyte.
    points = [(torch.kron(row, columns) @ taps).to(dtype) for row in rows]
    return torch.cat(points).view(-1, *weight.shape[:2])


def small_map_suits(weight: Tensor, stride: int, padding: int, maps: RoIMaps) -> bool:
    """Whether a convolution is one that `SmallMapConv` can compute, and gains by."""
    return (
        (weight.shape[2:], padding) == ((TAPS, TAPS), 1)
        and stride in (1, 2)
        and min(weight.shape[:2]) >= MIN_CHANNELS
        and stride <= maps.size <= MAX_OUTPUTS * stride
    )
