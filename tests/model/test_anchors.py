import math

import pytest
import torch

from detector.boxes import area
from detector.model.anchors import AnchorGenerator, base_anchors


def test_base_anchors_by_hand() -> None:
    # Areas 16² and 32²; height / width 1/4, 1 and 4.
    base = base_anchors((16, 32), (0.25, 1.0, 4.0), rounding=False)
    expected = [(32, 8), (16, 16), (8, 32), (64, 16), (32, 32), (16, 64)]
    assert base.tolist() == [[-w / 2, -h / 2, w / 2, h / 2] for w, h in expected]
    assert base.dtype == torch.float32


def test_anchors_of_one_size_have_one_area_and_are_not_rounded() -> None:
    base = base_anchors((32, 512), (0.5, 1.0, 2.0), rounding=False)
    torch.testing.assert_close(area(base), torch.tensor([32.0**2] * 3 + [512.0**2] * 3))
    assert base[0, 2].item() == pytest.approx(32 * math.sqrt(2) / 2, abs=1e-6)


def test_rounding_to_whole_pixels() -> None:
    base = base_anchors((32,), (0.5, 1.0, 2.0), rounding=True)
    # 22.63 and 11.31, half of 45.25 × 22.63
    assert base.tolist() == [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]


def test_the_grid_goes_row_by_row_and_starts_at_the_corner() -> None:
    anchors = AnchorGenerator((16,), (1.0, 4.0), stride=16)(height=2, width=3)
    assert anchors.shape == (2 * 3 * 2, 4)
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    expected = [[x, y] for y in (0.0, 16.0) for x in (0.0, 16.0, 32.0) for _ in range(2)]
    assert centers.tolist() == expected
    assert anchors[:2].tolist() == [[-8, -8, 8, 8], [-4, -16, 4, 16]]


def test_offset_moves_the_centres_by_a_part_of_a_stride() -> None:
    at_corner = AnchorGenerator((32,), (1.0,), stride=16)(2, 2)
    at_middle = AnchorGenerator((32,), (1.0,), stride=16, offset=0.5)(2, 2)
    assert (at_middle - at_corner).tolist() == [[8.0] * 4] * 4


def test_anchors_per_cell_and_an_empty_map() -> None:
    anchors = AnchorGenerator((32, 64, 128, 256, 512), (0.5, 1.0, 2.0), stride=16)
    assert anchors.per_cell == 15
    assert anchors(0, 5).shape == (0, 4)


def test_anchors_are_no_part_of_the_weights() -> None:
    assert AnchorGenerator((32,), (1.0,), 16).state_dict() == {}
