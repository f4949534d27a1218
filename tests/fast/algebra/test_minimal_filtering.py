"""Filtering along one axis against the convolution."""

import pytest
import torch
import torch.nn.functional as F

from detector.fast.algebra.minimal_filtering import EVALUATED_AT, for_each, minimal


@pytest.mark.parametrize("outputs", [1, 2, 3, 4])
@pytest.mark.parametrize("taps", [2, 3])
def test_it_filters(outputs: int, taps: int) -> None:
    filtering = minimal(outputs, taps, EVALUATED_AT)
    assert filtering.window.shape == (outputs + taps - 1, outputs + taps - 1)
    x, g = torch.randn(outputs + taps - 1, dtype=torch.float64), torch.randn(taps, dtype=torch.float64)
    found = filtering.output @ ((filtering.weight @ g) * (filtering.window @ x))
    torch.testing.assert_close(found, F.conv1d(x[None, None], g[None, None])[0, 0], rtol=0, atol=1e-13)


def test_for_each() -> None:
    matrix, tiles, out = torch.randn(2, 3), torch.randn(5, 3, 4), torch.empty(5, 2, 4)
    assert for_each(matrix, tiles, out) is out
    torch.testing.assert_close(out, torch.stack([matrix @ tile for tile in tiles]))
