import math

import pytest
import torch

from detector.boxes import area
from detector.model.anchors import AnchorGenerator, base_anchors
from detector.structures import FeatureMap


def a_map(rows: int, columns: int, stride: int = 16) -> FeatureMap:
    return FeatureMap(torch.zeros(1, 1, rows, columns), stride)


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
    (grid,) = AnchorGenerator((16,), (1.0, 4.0))((a_map(2, 3),))
    anchors = grid.all()
    assert len(grid) == 2 * 3 * 2
    assert anchors.shape == (2 * 3 * 2, 4)
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    expected = [[x, y] for y in (0.0, 16.0) for x in (0.0, 16.0, 32.0) for _ in range(2)]
    assert centers.tolist() == expected
    assert anchors[:2].tolist() == [[-8, -8, 8, 8], [-4, -16, 4, 16]]


def test_offset_moves_the_centres_by_a_part_of_a_stride() -> None:
    (at_corner,) = AnchorGenerator((32,), (1.0,))((a_map(2, 2),))
    (at_middle,) = AnchorGenerator((32,), (1.0,), offset=0.5)((a_map(2, 2),))
    assert (at_middle.all() - at_corner.all()).tolist() == [[8.0] * 4] * 4


def test_anchors_per_cell_and_an_empty_map() -> None:
    anchors = AnchorGenerator((32, 64, 128, 256, 512), (0.5, 1.0, 2.0))
    assert anchors.per_cell == 15
    (grid,) = anchors((a_map(0, 5),))
    assert len(grid) == 0
    assert grid.all().shape == (0, 4)


def test_some_anchors_are_those_of_the_whole_grid() -> None:
    (grid,) = AnchorGenerator((16, 40), (0.5, 1.0))((a_map(3, 5),))
    index = torch.tensor([59, 0, 17, 17])
    assert torch.equal(grid.at(index), grid.all()[index])


def test_every_map_has_a_grid_of_its_own_stride() -> None:
    fine, coarse = AnchorGenerator((16,), (1.0,))((a_map(2, 4, stride=8), a_map(1, 2, stride=16)))
    assert fine.all()[-1].tolist() == [24 - 8, 8 - 8, 24 + 8, 8 + 8]
    assert coarse.all()[-1].tolist() == [16 - 8, -8, 16 + 8, 8]


def test_anchors_are_no_part_of_the_weights() -> None:
    assert AnchorGenerator((32,), (1.0,)).state_dict() == {}


def test_levels_share_out_the_sizes_in_order() -> None:
    generator = AnchorGenerator((16, 20, 32, 40), (1.0,), levels=2)
    fine, coarse = generator((a_map(1, 2, stride=8), a_map(1, 1, stride=16)))
    assert (generator.per_cell, len(fine), len(coarse)) == (2, 4, 2)
    assert area(fine.all()).tolist() == [256.0, 400.0] * 2
    assert area(coarse.all()).tolist() == [1024.0, 1600.0]


def test_measured_strides_are_the_padded_picture_over_the_map_rounded_down() -> None:
    # 800 × 1216 pixels: 200 × 304 cells of stride 4, and at 64 pixels 13 × 19, the last of which reach beyond.
    maps = (a_map(200, 304, stride=4), a_map(13, 19, stride=64))
    nominal, measured = (AnchorGenerator((32, 512), (1.0,), levels=2, measured_strides=m)(maps) for m in (False, True))
    first, second = measured[1].all()[0], measured[1].all()[20]  # a row and a column further
    assert (second - first).tolist() == [64.0, 61.0, 64.0, 61.0]
    assert torch.equal(measured[0].all(), nominal[0].all())
    assert (nominal[1].all()[20] - nominal[1].all()[0]).tolist() == [64.0] * 4
