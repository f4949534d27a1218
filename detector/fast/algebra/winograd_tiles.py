"""Winograd's minimal filtering: a 3×3 convolution of stride 1 with a quarter of the multiplications.

A map is cut into tiles of 4×4 outputs, each of which sees a window of 6×6 inputs. Along one axis four outputs of a
filter of three taps take six products and not twelve (`minimal_filtering.py`). In two dimensions 36 take the place of
144, and every point is one matrix product over the channels (Lavin and Gray, arXiv 1509.09308, §4:
Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A). What it gives is the convolution, in float32 to two or three times the rounding of direct
summation.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.fast.algebra.minimal_filtering import EVALUATED_AT, constant, for_each, minimal

TILE, WINDOW, TAPS = 4, 6, 3  # outputs, inputs and filter taps along an axis
POINTS = WINDOW * WINDOW

# A map is computed in bands of whole rows of tiles, so that what lies between its cells and its outputs stays in cache.
# They may take this many times the products of all tiles together, since the last block of each is filled up.
BAND_PRODUCTS = 1.02


@dataclass(frozen=True)
class Transforms:
    """The matrices that take flattened tiles to the points and back.

    window: [36, 36], for a tile's inputs. weight: [36, 9], for a filter. output: [16, 36], for the products.
    constant: [36], products that give 1 everywhere; multiplied by a bias they add it.
    """

    window: Tensor
    weight: Tensor
    output: Tensor
    constant: Tensor


@cache
def transforms(dtype: torch.dtype) -> Transforms:
    """Bᵀ, G and Aᵀ, of both axes together, computed in float64."""
    axis = minimal(TILE, TAPS, EVALUATED_AT)
    of_axis = (axis.window, axis.weight, axis.output, constant(axis.output))
    return Transforms(*(torch.kron(of, of).to(dtype) for of in of_axis))


@dataclass(frozen=True)
class Tiling:
    """How N maps of H×W are cut; at the right and lower border tiles may reach beyond the map."""

    images: int
    height: int
    width: int

    @property
    def rows(self) -> int:
        """How many tiles cover the height of a map."""
        return -(-self.height // TILE)

    @property
    def columns(self) -> int:
        """How many tiles cover the width of a map."""
        return -(-self.width // TILE)

    @property
    def count(self) -> int:
        """Tiles of all maps together, T."""
        return self.images * self.rows * self.columns

    def blocks(self, block: int) -> int:
        """How many blocks of `block` tiles hold all."""
        return -(-self.count // block)

    def parts(self, block: int) -> "list[tuple[slice, Tiling]]":
        """Which maps are computed together: about as many as have `block` tiles, so that these stay in cache."""
        step = max(1, block // (self.rows * self.columns))
        ends = [(i, min(i + step, self.images)) for i in range(0, self.images, step)]
        return [(slice(i, end), Tiling(end - i, self.height, self.width)) for i, end in ends]

    def bands(self, block: int) -> "list[tuple[int, Tiling]]":
        """Bands of rows of tiles, each with its first row of cells.

        They are as low as can be without filling up many more blocks (`BAND_PRODUCTS`).
        """
        for rows in range(1, self.rows):
            whole, rest = divmod(self.rows, rows)
            in_band, in_last = (-(-self.images * n * self.columns // block) for n in (rows, rest))
            if whole * in_band + in_last <= BAND_PRODUCTS * self.blocks(block):
                height = TILE * rows
                firsts = range(0, self.height, height)
                return [(y, Tiling(self.images, min(height, self.height - y), self.width)) for y in firsts]
        return [(0, self)]

    def cells(self, x: Tensor, first: int = 0) -> Tensor:
        """The cells that the tiles of a band see, [M, C], with a border of zeros around every map.

        x: [N, C, H, W] channels-last. first: the row of cells that the band begins with.
        """
        top, height = first - 1, TILE * self.rows + 2
        seen = x[:, :, max(top, 0) : top + height].permute(0, 2, 3, 1)
        above, right = max(-top, 0), 1 + self.width
        below = above + seen.shape[1]
        cells = x.new_empty(self.images, height, TILE * self.columns + 2, x.shape[1])
        # Not by `F.pad`, which fills all with zeros first.
        for border in (cells[:, :above], cells[:, below:], cells[:, above:below, :1], cells[:, above:below, right:]):
            border.zero_()
        cells[:, above:below, 1:right].copy_(seen)
        return cells.flatten(0, 2)

    def windows(self, tiles: Tensor) -> Tensor:
        """The cells that tiles see: indices [t] of tiles, row by row and image by image, to [t, 36] of `cells`."""
        height, width = TILE * self.rows + 2, TILE * self.columns + 2
        image = tiles // (self.rows * self.columns)
        row, column = tiles // self.columns % self.rows, tiles % self.columns
        first = (image * height + TILE * row) * width + TILE * column
        step = torch.arange(WINDOW, device=tiles.device)
        return first[:, None] + (step[:, None] * width + step).flatten()

    def join(self, outputs: Tensor, maps: Tensor) -> None:
        """Tiles of outputs [T, 16, C] into maps [N, H, W, C]."""
        tiles = outputs.view(self.images, self.rows, self.columns, TILE, TILE, -1)
        for rows, inside_rows, h in _whole_and_cut(self.height):
            for columns, inside_columns, w in _whole_and_cut(self.width):
                cells = maps[:, inside_rows, inside_columns]
                grid = torch.unflatten(torch.unflatten(cells, 2, (-1, w)), 1, (-1, h))  # [N, rows, h, columns, w, C]
                grid.copy_(tiles[:, rows, columns, :h, :w].transpose(2, 3))

    def split(self, y: Tensor) -> Tensor:
        """Maps [N, C, H, W] cut into the tiles of outputs [T, 16, C] that `join` joins; zeros beyond the maps."""
        right, below = TILE * self.columns - self.width, TILE * self.rows - self.height
        grid = F.pad(y.permute(0, 2, 3, 1), (0, 0, 0, right, 0, below))
        grid = grid.view(self.images, self.rows, TILE, self.columns, TILE, -1).transpose(2, 3)
        return grid.reshape(self.count, TILE * TILE, -1)


def _whole_and_cut(length: int) -> Iterator[tuple[slice, slice, int]]:
    """Tiles along an axis, the cells that they cover, and how many each covers: whole tiles first, then a cut one."""
    whole, rest = divmod(length, TILE)
    if whole:
        yield slice(0, whole), slice(0, TILE * whole), TILE
    if rest:
        yield slice(whole, whole + 1), slice(TILE * whole, length), rest


def convolve(
    x: Tensor,
    multiply: Callable[[Tensor], Tensor],
    channels: int,
    to: Transforms,
    block: int,
    relu: bool = False,
) -> Tensor:
    """The convolution, padded by 1.

    Args:
        x: [N, C, H, W] channels-last.
        multiply: [block, 36, C] to [block, 36, O], by the weights of each point, and with its share of the bias; always
            of this size.
        channels: O.
        to: in the type of x.
        block: tiles that are computed together.
        relu: apply a ReLU at the end.

    Returns:
        [N, O, H, W] channels-last.
    """
    images, _, height, width = x.shape
    size = (images, channels, height, width)
    whole = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    for maps, tiling in Tiling(images, height, width).parts(block):
        for first, band in tiling.bands(block):
            cells = band.cells(x[maps], first)
            tiles = torch.arange(band.blocks(block) * block).clamp(max=band.count - 1)  # the last fills up a block
            outputs = x.new_empty(len(tiles), TILE * TILE, channels)
            for windows, out in zip(torch.split(band.windows(tiles), block), torch.split(outputs, block), strict=True):
                points = for_each(to.window, F.embedding(windows, cells))
                for_each(to.output, multiply(points), out)
                if relu:  # while it is in the cache
                    out.relu_()
            band.join(outputs[: band.count], whole[maps, :, first : first + band.height].permute(0, 2, 3, 1))
    return whole


def multiplications_saved(x: Tensor, block: int, extra: int = 0) -> float:
    """How many times fewer multiplications `convolve` takes on x [N, C, H, W] than direct summation; 0 for no maps.

    Args:
        block: tiles of a block; they count also where a last block is not full.
        extra: as many tiles' work counts besides, for what has to be prepared.
    """
    images, _, height, width = x.shape
    if images == 0:
        return 0.0
    blocks = sum(tiling.blocks(block) for _, tiling in Tiling(images, height, width).parts(block))
    return TAPS**2 * images * height * width / (POINTS * (block * blocks + extra))
