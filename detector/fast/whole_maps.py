"""3×3 convolutions of RoIs' maps by minimal filtering of whole axes (`algebra/whole_axes.py`)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.fast.algebra.minimal_filtering import for_each
from detector.fast.algebra.whole_axes import LONG, SHORT, Share, all_cells, constants, odd_cells, together
from detector.fast.algebra.winograd_tiles import TAPS
from detector.fast.convolution import Execution, FusedConv, PackedConv, RoIMaps
from detector.fast.products import Products, grouped_products

MIDDLE = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)  # the weight of a point that takes this tap alone

EVERY, EVEN, ODD = slice(None), slice(0, None, 2), slice(1, None, 2)


class WholeMapConv(nn.Module):
    """A 3×3 convolution with padding 1, bias, and where wanted a residual and a ReLU, of RoIs' maps.

    Args:
        weight: [O, C, 3, 3], any float type.
        bias: [O] or None.
        stride: 1 or 2.
        relu: apply a ReLU at the end.
        execution: type and kernels.
        maps: their size, and how many are computed together, always: packed weights fit one number of rows.
        min_saved: how many times fewer multiplications it takes to make up for transforming the maps; where a last
            chunk holds so few maps that fewer are saved, it is convolved directly.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        stride: int,
        relu: bool,
        execution: Execution,
        maps: RoIMaps,
        min_saved: float,
    ) -> None:
        super().__init__()
        self.direct = FusedConv(weight, bias, stride, 1, relu, execution)
        self.block = maps.count
        self.min_saved = min_saved
        weight, outputs = weight.detach().double(), maps.after(stride)
        self.middle: nn.Module | None = None
        if stride == 1:
            self.parts = [Part(EVERY, EVERY, BothAxes(all_cells(maps.size), weight, bias, maps.count, execution))]
        else:
            # A cell of even row and even column meets the middle of the filter, and no other tap.
            self.middle = _middle_tap(weight[:, :, 1:2, 1:2], bias, execution, maps)
            axis = odd_cells(maps.size, LONG)
            one, turned = (OneAxis(axis, w, outputs, execution) for w in (weight, weight.transpose(2, 3)))
            both = BothAxes(odd_cells(maps.size, SHORT), weight, None, maps.count, execution)
            self.parts = [Part(EVEN, ODD, one), Part(ODD, EVEN, turned, turned=True), Part(ODD, ODD, both)]
        products = sum(part.products.count for part in self.parts) + (0 if self.middle is None else outputs.size**2)
        self.saved = (TAPS * outputs.size) ** 2 / products

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """[N, C, size, size] to [N, O, S, S], both channels-last; the residual may be overwritten."""
        count = x.shape[0]
        if self.saved * count < self.min_saved * self.block * max(1, -(-count // self.block)):
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


def _middle_tap(weight: Tensor, bias: Tensor | None, execution: Execution, maps: RoIMaps) -> nn.Module:
    """The convolution of stride 2 with the middle tap, [O, C, 1, 1], alone."""
    if execution.onednn:
        return PackedConv(weight, bias, 2, 0, False, execution, maps)
    return FusedConv(weight, bias, 2, 0, False, execution)


@dataclass(frozen=True)
class Part:
    """What cells of one parity of rows and of columns give to a convolution.

    rows, columns: which cells. products: what is done with them. turned: rows and columns change places.
    """

    rows: slice
    columns: slice
    products: "OneAxis | BothAxes"
    turned: bool = False

    def put(self, cells: Tensor, sums: Tensor, add: bool) -> None:
        """Write what this part gives into `sums`, or add it.

        Args:
            cells: [block, size, size, C], a whole block of maps.
            sums: [n, outputs, outputs, O], for the first n of these maps.
            add: to what `sums` holds.
        """
        cells = cells[:, self.rows, self.columns]
        if self.turned:
            cells, sums = cells.transpose(1, 2), sums.transpose(1, 2)
        summand = self.products(cells)[: sums.shape[0]]
        if add:
            sums += summand
        else:
            sums.copy_(summand)


class OneAxis:
    """Products along columns, where rows meet the middle taps alone.

    Args:
        axis: along columns.
        weight: [O, C, 3, 3] float64.
        outputs: their size, and of how many maps.
        execution: type and kernels.
    """

    def __init__(self, axis: Sequence[Share], weight: Tensor, outputs: RoIMaps, execution: Execution) -> None:
        dtype, columns = execution.dtype, together(axis)
        self.window, self.output = columns.window.to(dtype), columns.output.to(dtype)
        filters = point_filters(weight, MIDDLE, columns.weight, dtype)
        self.multiply = grouped_products(filters, None, outputs.count * outputs.size, execution.onednn)
        self.count = outputs.size * len(columns.window)  # products a map and a pair of channels

    def __call__(self, cells: Tensor) -> Tensor:
        """[block, rows, cells, C] to [block, rows, outputs, O]."""
        products = self.multiply(for_each(self.window, cells.flatten(0, 1)))
        return for_each(self.output, products).view(*cells.shape[:2], len(self.output), -1)


class BothAxes:
    """Products along columns and rows.

    Columns come first, over all cells: an axis of 7 becomes 11 points (`algebra/whole_axes.py` has them drawn). Then
    rows become points, share by share, since all places of a share have the same weights and so one set of filters: of
    the 11 points along rows the first 10 are 5 filters at 2 places, the last is one at 1. For maps of 7×7 that is

        share    filters                    rows of each product    products a map
        first    5 rows × 11 columns        block × 2 places        110
        second   1 row  × 11 columns        block × 1 place          11

    and 121 together, where the convolution itself multiplies 441 times. What both shares give is added up while it is
    still in points along columns, and only then taken back to the 7 outputs of each row.

    Args:
        axis: either of the two.
        weight: [O, C, 3, 3] float64.
        bias: [O] or None.
        block: maps.
        execution: type and kernels.
    """

    def __init__(
        self, axis: Sequence[Share], weight: Tensor, bias: Tensor | None, block: int, execution: Execution
    ) -> None:
        dtype, columns = execution.dtype, together(axis)
        self.window, self.output = columns.window.to(dtype), columns.output.to(dtype)
        ones = constants(axis)
        across = torch.cat([one.repeat(share.places) for one, share in zip(ones, axis, strict=True)])
        self.rows = []
        for share, one in zip(axis, ones, strict=True):
            biases = None if bias is None else torch.outer(torch.kron(one, across), bias.double())
            filters = point_filters(weight, share.weight, columns.weight, dtype)
            products = grouped_products(filters, biases, block * share.places, execution.onednn)
            self.rows.append(Rows(share, products, dtype))
        self.count = len(columns.window) ** 2  # products a map and a pair of channels

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
    """The products of one share along rows, with all points along columns.

    Args:
        share: along rows.
        multiply: of its P points by Q along columns.
        dtype: of the products.
    """

    def __init__(self, share: Share, multiply: Products, dtype: torch.dtype) -> None:
        self.window, self.output = share.window.to(dtype), share.output.to(dtype)
        self.multiply = multiply

    def __call__(self, columns: Tensor) -> Tensor:
        """[block, cells, Q·C], transformed along columns, to a summand [block, outputs, Q·O]."""
        points = for_each(self.window, columns).view(self.multiply.rows, self.multiply.groups, -1)
        products = self.multiply(points).view(columns.shape[0], len(self.window), -1)
        return for_each(self.output, products)


def point_filters(weight: Tensor, rows: Tensor, columns: Tensor, dtype: torch.dtype) -> Tensor:
    """A filter at P points along rows and Q along columns: [P·Q, O, C] of the given type.

    Args:
        weight: [O, C, 3, 3] float64.
        rows, columns: [P, 3] and [Q, 3], the points' weights for the three taps of either axis.
        dtype: of the result.
    """
    taps = weight.permute(2, 3, 0, 1).flatten(2).flatten(0, 1)  # [9, O·C]
    # Row by row, since all of them in float64 would take a quarter of a gigabyte.
    points = [(torch.kron(row, columns) @ taps).to(dtype) for row in rows]
    return torch.cat(points).view(-1, *weight.shape[:2])
