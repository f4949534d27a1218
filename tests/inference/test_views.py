"""Views: sizes, mirrors, and boxes that go there and back."""

import itertools

import numpy as np
import pytest
import torch

from detector.config import InputConfig, ViewsConfig
from detector.inference.views import DETECTRON2_SIZES, MAXOUT_SCALES, View, views_of

INPUT = InputConfig(min_size_test=60, max_size_test=100)
ORIGINAL = (90, 120)
EVERY_MIRROR = list(itertools.product((False, True), repeat=2))


def picture() -> np.ndarray:
    """Black, with one white rectangle: rows 10 to 40, columns 20 to 50."""
    image = np.zeros((*ORIGINAL, 3), np.uint8)
    image[10:40, 20:50] = 255
    return image


@pytest.mark.parametrize(("horizontal", "vertical"), EVERY_MIRROR)
def test_a_box_is_where_its_object_is_in_the_view(horizontal: bool, vertical: bool) -> None:
    view = View(scale=2.0, horizontal=horizontal, vertical=vertical)
    seen = view.pixels(picture(), INPUT)
    size = seen.shape[:2]
    assert size == view.size(ORIGINAL, INPUT) == (120, 160)
    box = view.to_view(torch.tensor([[20.0, 10, 50, 40]]), ORIGINAL, size)[0].tolist()
    rows, columns = np.nonzero(seen[..., 0] > 127)
    assert box == pytest.approx([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], abs=1)


@pytest.mark.parametrize(("horizontal", "vertical"), EVERY_MIRROR)
def test_boxes_come_back(horizontal: bool, vertical: bool) -> None:
    view = View(horizontal=horizontal, vertical=vertical)
    boxes = torch.tensor([[[1.0, 2, 30, 40], [0, 0, 120, 90]], [[5, 6, 7, 8], [100, 80, 110, 85]]])
    there = view.to_view(boxes, ORIGINAL, (61, 80))
    assert (there[..., 2:] > there[..., :2]).all()
    torch.testing.assert_close(view.to_original(there, ORIGINAL, (61, 80)), boxes, atol=1e-4, rtol=0)


def test_sizes() -> None:
    assert View().size(ORIGINAL, INPUT) == (60, 80)
    assert View(scale=0.5).size(ORIGINAL, INPUT) == (30, 40)
    assert View(shortest=45, longest=1000).size(ORIGINAL, INPUT) == (45, 60)
    assert View(shortest=90, longest=60).size(ORIGINAL, INPUT) == (45, 60)
    own = InputConfig(min_size_test=0)
    assert View().size(ORIGINAL, own) == ORIGINAL
    assert View(scale=1.5).size(ORIGINAL, own) == (135, 180)
    assert View(scale=0.001).size(ORIGINAL, own) == (1, 1)
    assert View(scale=20.0).size((3000, 4000), own) == (15_000, 20_000)  # no view is longer than that


def test_which_views_there_are_and_in_which_order() -> None:
    views = views_of(ViewsConfig(scales=(1.0, 0.5)), INPUT)
    assert [(v.scale, v.horizontal) for v in views] == [(1.0, False), (1.0, True), (0.5, False), (0.5, True)]
    assert len(views_of(ViewsConfig(vertical_flip=True), INPUT)) == 4
    assert views_of(ViewsConfig(horizontal_flip=False), INPUT) == [View()]
    by_size = views_of(ViewsConfig(sizes=(32, 64), horizontal_flip=False), INPUT)
    assert [(v.shortest, v.longest) for v in by_size] == [(32, 100), (64, 100)]


def test_forms_have_sizes_of_their_own() -> None:
    maxout = views_of(ViewsConfig(form="maxout", horizontal_flip=False), INPUT)
    assert tuple(v.scale for v in maxout) == MAXOUT_SCALES
    theirs = views_of(ViewsConfig(form="detectron2"), INPUT)
    assert len(theirs) == 18
    assert [v.shortest for v in theirs[::2]] == list(DETECTRON2_SIZES)
    assert {v.longest for v in theirs} == {4000}
