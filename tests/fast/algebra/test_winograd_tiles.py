"""Winograd's convolution against the convolution."""

import pytest
import torch
import torch.nn.functional as F

from detector.fast.algebra.winograd_tiles import TILE, Tiling, convolve, multiplications_saved, transforms


def test_a_tile_by_hand() -> None:
    to = transforms(torch.float64)
    window = torch.randn(6, 6, dtype=torch.float64)
    ones = torch.ones(3, 3, dtype=torch.float64)
    products = (to.weight @ ones.flatten()) * (to.window @ window.flatten())
    sums = torch.stack([window[y : y + 3, x : x + 3].sum() for y in range(TILE) for x in range(TILE)])
    torch.testing.assert_close(to.output @ products, sums, rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", [(1, 4, 4), (1, 1, 1), (2, 7, 7), (3, 5, 14), (1, 13, 8), (2, 2, 9)])
def test_tiles_joined_are_the_convolution(size: tuple[int, int, int]) -> None:
    n, h, w = size
    x = torch.randn(n, 3, h, w, dtype=torch.float64)
    weight = torch.randn(5, 3, 3, 3, dtype=torch.float64)
    to, tiling = transforms(torch.float64), Tiling(n, h, w)
    windows = tiling.cells(x)[tiling.windows(torch.arange(tiling.count))]  # [T, 36, 3]
    points = torch.einsum("pk,tkc->tpc", to.window, windows)
    products = torch.einsum("tpc,pk,ock->tpo", points, to.weight, weight.flatten(2))
    found = torch.empty(n, h, w, 5, dtype=torch.float64)
    tiling.join(torch.einsum("kp,tpo->tko", to.output, products), found)
    torch.testing.assert_close(found.permute(0, 3, 1, 2), F.conv2d(x, weight, padding=1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(1, 4, 4), (7, 3, 2), (5, 7, 7), (1, 29, 31), (2, 13, 9)])
@pytest.mark.parametrize("block", [1, 6, 64])
def test_blocks_give_the_whole_convolution(size: tuple[int, int, int], block: int) -> None:
    n, h, w = size
    x = torch.randn(n, 3, h, w, dtype=torch.float64)
    weight, bias = torch.randn(5, 3, 3, 3, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    to, sizes = transforms(torch.float64), set()

    def multiply(points: torch.Tensor) -> torch.Tensor:
        sizes.add(points.shape[0])
        return torch.einsum("tpc,pk,ock->tpo", points, to.weight, weight.flatten(2)) + to.constant[:, None] * bias

    found = convolve(x, multiply, 5, to, block)
    torch.testing.assert_close(found, F.conv2d(x, weight, bias, padding=1), rtol=0, atol=1e-12)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert sizes == {block}


@pytest.mark.parametrize("size", [(1, 200, 304), (1, 99, 150), (1, 30, 7), (3, 8, 9)])
@pytest.mark.parametrize("block", [6, 64, 128])
def test_bands_follow_each_other_and_hardly_fill_up_more_blocks(size: tuple[int, int, int], block: int) -> None:
    tiling = Tiling(*size)
    bands = tiling.bands(block)
    assert [first for first, _ in bands] == [sum(b.height for _, b in bands[:i]) for i in range(len(bands))]
    assert sum(band.height for _, band in bands) == tiling.height
    assert sum(band.count for _, band in bands) == tiling.count
    assert sum(band.blocks(block) for _, band in bands) <= 1.02 * tiling.blocks(block)


def test_a_large_map_is_computed_in_low_bands() -> None:
    """What lies between its cells and its outputs is a tenth of what it would be for all of it."""
    assert max(band.count for _, band in Tiling(1, 200, 304).bands(128)) == 380


def test_each_output_is_in_one_tile() -> None:
    tiling = Tiling(2, 9, 6)
    assert (tiling.rows, tiling.columns, tiling.count) == (3, 2, 12)
    where = torch.arange(tiling.count)[:, None, None].expand(-1, TILE * TILE, 1)
    joined = torch.full((2, 9, 6, 1), -1.0)
    tiling.join(where.float(), joined)
    assert joined.min() == 0
    assert joined[1, 8, 5, 0] == 11
    assert (joined[0, :4, 4:, 0] == 1).all()


def test_splitting_undoes_joining() -> None:
    tiling = Tiling(2, 9, 6)
    maps = torch.randn(2, 9, 6, 3)
    outputs = tiling.split(maps.permute(0, 3, 1, 2))
    joined = torch.empty_like(maps)
    tiling.join(outputs, joined)
    assert torch.equal(joined, maps)
    assert (outputs != 0).sum() == maps.numel()  # zeros beyond


def test_float32_holds_the_transforms_of_maps() -> None:
    to, rounded = transforms(torch.float64), transforms(torch.float32)
    for matrix, found in ((to.window, rounded.window), (to.output, rounded.output)):
        torch.testing.assert_close(found.double(), matrix, rtol=1e-14, atol=1e-14)
    assert not torch.allclose(rounded.weight.double(), to.weight, rtol=1e-14, atol=1e-14)


def test_what_is_saved() -> None:
    assert multiplications_saved(torch.empty(1, 3, 8, 8), 4) == 4
    assert multiplications_saved(torch.empty(1, 3, 8, 8), 8) == 2
    assert multiplications_saved(torch.empty(1, 3, 8, 8), 4, extra=4) == 2
    assert multiplications_saved(torch.empty(0, 3, 8, 8), 4) == 0
    assert multiplications_saved(torch.empty(3, 3, 7, 7), 8) == pytest.approx(9 * 3 * 49 / (36 * 16))
