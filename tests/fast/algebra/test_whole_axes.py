"""A whole axis by minimal filtering against the convolution."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from detector.fast.algebra.whole_axes import LONG, SHORT, Share, Tiles, all_cells, constants, odd_cells, together


def filtered(shares: list[Share], cells: Tensor, taps: Tensor) -> Tensor:
    """The sum of all shares."""
    summands = [s.output @ ((s.weight.repeat(s.places, 1) @ taps) * (s.window @ cells)) for s in shares]
    return torch.stack(summands).sum(dim=0)


@pytest.mark.parametrize("size", range(1, 17))
def test_all_cells(size: int) -> None:
    x, taps = torch.randn(size, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    expected = F.conv1d(x[None, None], taps[None, None], padding=1)[0, 0]
    torch.testing.assert_close(filtered(all_cells(size), x, taps), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", range(2, 33))
@pytest.mark.parametrize("tiles", [SHORT, LONG])
def test_odd_cells(size: int, tiles: Tiles) -> None:
    x, taps = torch.randn(size, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    expected = F.conv1d(x[None, None], taps[None, None], padding=1, stride=2)[0, 0]
    found = filtered(odd_cells(size, tiles), x[1::2], taps) + taps[1] * x[::2]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        (all_cells(7), [(5, 2), (1, 1)]),  # tiles of 4 and 3
        (all_cells(6), [(5, 2)]),
        (all_cells(4), [(6, 1)]),
        (odd_cells(14, LONG), [(8, 1)]),
        (odd_cells(14, SHORT), [(4, 2), (1, 1)]),
        (odd_cells(13, LONG), [(8, 1)]),
    ],
)
def test_how_many_products(shares: list[Share], expected: list[tuple[int, int]]) -> None:
    assert [(len(share.weight), share.places) for share in shares] == expected


def test_together_they_are_one_share() -> None:
    x, taps = torch.randn(7, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    whole = together(all_cells(7))
    assert whole.places == 1
    assert whole.weight.shape == (11, 3)
    torch.testing.assert_close(filtered([whole], x, taps), filtered(all_cells(7), x, taps))


@pytest.mark.parametrize("size", range(1, 17))
def test_constants_give_1_everywhere(size: int) -> None:
    shares = all_cells(size)
    found = [share.output @ one.repeat(share.places) for share, one in zip(shares, constants(shares), strict=True)]
    torch.testing.assert_close(torch.stack(found).sum(dim=0), torch.ones(size).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shares", [all_cells(7), odd_cells(14, SHORT), odd_cells(14, LONG)])
def test_float32_holds_the_transforms_of_maps(shares: list[Share]) -> None:
    whole = together(shares)
    for matrix in (whole.window, whole.output):
        torch.testing.assert_close(matrix.float().double(), matrix, rtol=1e-14, atol=1e-14)
