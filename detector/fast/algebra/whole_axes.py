"""Minimal filtering of maps so small that an axis is taken whole, as RoIs have them in conv5_x.

An axis of 7 cells is a tile of 4 outputs and one of 3; since the border is known to be zero, 11 products give them. In
two dimensions 121 take the place of 441.

At stride 2 the middle tap meets the even cells alone and the outer two the odd cells alone, as a filter of two taps and
stride 1. So a map of 14×14 is four of 7×7, by the parity of row and column, and 49 + 56 + 56 + 81 products take the
place of 441.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.fast.algebra.minimal_filtering import EVALUATED_AT, constant, minimal


@dataclass(frozen=True)
class Tiles:
    """How an axis may be cut. most: outputs of a tile. points: where polynomials are evaluated, besides infinity."""

    most: int
    points: tuple[float, ...]


SHORT = Tiles(4, EVALUATED_AT)

# For two taps along one axis; along both, or with three taps, they would cost digits.
LONG = Tiles(7, (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5))


@dataclass(frozen=True)
class Share:
    """Products along an axis that have the same weights at several places; float64.

    window: [places·P, cells]. weight: [P, 3], of the taps. output: [outputs, places·P], a summand of the outputs.
    """

    window: Tensor
    weight: Tensor
    output: Tensor

    @property
    def places(self) -> int:
        """The number of places along the axis that use the same weights."""
        return self.window.shape[0] // self.weight.shape[0]


def together(shares: Sequence[Share]) -> Share:
    """All products of an axis as one share of one place, as if none had its weights in common with another."""
    return Share(
        torch.cat([share.window for share in shares]),
        torch.cat([share.weight.repeat(share.places, 1) for share in shares]),
        torch.cat([share.output for share in shares], dim=1),
    )


def constants(shares: Sequence[Share]) -> list[Tensor]:
    """Products [P] for each share, the same at all its places, whose outputs are 1 everywhere: how a bias is added."""
    outputs = torch.cat([torch.unflatten(share.output, 1, (share.places, -1)).sum(dim=1) for share in shares], dim=1)
    return list(torch.split(constant(outputs), [len(share.weight) for share in shares]))


def all_cells(size: int) -> list[Share]:
    """Three taps with padding 1 over an axis of `size` cells, stride 1. The summands of all shares add up."""
    return _shares(size, torch.eye(3), size, SHORT)


def odd_cells(size: int, tiles: Tiles) -> list[Share]:
    """What the outer two of three taps with padding 1 and stride 2 give; windows are of cells 1, 3, … of the axis."""
    return _shares(size // 2, torch.eye(3)[[0, 2]], -(-size // 2), tiles)


def _shares(cells: int, taps: Tensor, outputs: int, tiles: Tiles) -> list[Share]:
    """An axis cut into tiles, as equal as can be, whose products are sorted by their weights.

    An axis of 7 cells c with a border of zeros, for 7 outputs y of three taps, so tiles of 4 and 3 outputs:

        cells       0   c0  c1  c2  c3  c4  c5  c6  0
        tile 1      |--- sees 6 cells ---|                  gives y0 y1 y2 y3    6 products
        tile 2                      |-sees 5 cells--|       gives y4 y5 y6       5 products

    Direct summation takes 7·3 = 21 products, these are 6 + 5 = 11. Each is a value of a polynomial at a point, and the
    smaller tile does with the same points but one:

        points      0    3/4   -3/4   3/2    ∞      -3/2
        tile 1      x     x     x      x     x       x
        tile 2      x     x     x      x     x
                   |------- first share ------|   | second |
                     5 weights, 2 places           1 weight, 1 place

    A point's weight is the filter's value there, whichever the tile; so a share needs its filters once.

    Args:
        cells: of the axis; there is a border before them, and after them where the outputs need one.
        taps: [r, 3], which of the three taps there are.
        outputs: of the axis.
        tiles: how long they may be, and the points.
    """
    terms = len(taps)
    count = -(-outputs // tiles.most)
    smaller, remaining = divmod(outputs, count)
    sizes = [smaller + 1] * remaining + [smaller] * (count - remaining)
    points = tiles.points[: sizes[0] + terms - 2]
    seen = F.pad(torch.eye(cells).double(), (0, 0, 1, outputs + terms - 2 - cells))
    windows, placed = [], []
    for i, size in enumerate(sizes):
        tile, start = minimal(size, terms, points), sum(sizes[:i])
        windows.append(_same_weights(tile.window, points) @ seen[start : start + size + terms - 1])
        placed.append(F.pad(tile.output, (0, 0, start, outputs - start - size)))
    weight = minimal(sizes[0], terms, points).weight @ taps.double()
    in_all = [*range(smaller + terms - 2), -1]  # finite points, and infinity
    in_larger = [*range(smaller + terms - 2, len(points))]
    return [
        Share(torch.cat([w[rows] for w in windows[:n]]), weight[rows], torch.cat([p[:, rows] for p in placed[:n]], 1))
        for rows, n in ((in_all, count), (in_larger, remaining))
        if rows
    ]


def _same_weights(window: Tensor, points: tuple[float, ...]) -> Tensor:
    """The window of a tile that does without the last points, changed to fit the weights of one that has them all.

    Weights have a point's distances to the others for denominators, so the one distance that is missing is a factor.
    """
    used, unused = points[: len(window) - 1], points[len(window) - 1 :]
    factors = [math.prod(a - b for b in unused) for a in used]
    return torch.tensor([*factors, 1.0], dtype=torch.float64)[:, None] * window
