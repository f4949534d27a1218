import math
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as rle

from detector.datasets.formats.masks import mask_bounds

POLYGON = [20, 10, 50, 10, 50, 40, 20, 40]


@pytest.mark.parametrize(
    ("polygons", "bounds"),
    [
        ([POLYGON], [20, 10, 30, 30]),
        ([POLYGON, [60, 5, 70, 5, 70, 9]], [20, 5, 50, 35]),
        ([POLYGON, []], [20, 10, 30, 30]),
        ([[1.5, 2.5, 4.25, 2.5, 3, 7]], [1.5, 2.5, 2.75, 4.5]),
    ],
)
@pytest.mark.parametrize("box", [None, [], ()])
def test_a_box_from_polygons(polygons: Any, bounds: list[float], box: Any) -> None:
    assert mask_bounds(polygons, box) == bounds


@pytest.mark.parametrize("packed", [True, False])
def test_a_box_from_run_lengths(packed: bool) -> None:
    pixels = np.zeros((40, 60), np.uint8)
    pixels[5:15, 20:50] = 1
    if packed:
        mask = rle.encode(np.asfortranarray(pixels))
        given: Any = {"size": [40, 60], "counts": mask["counts"].decode()}
    else:
        columns = pixels.T.reshape(-1)
        ends = [0, *(np.flatnonzero(np.diff(columns)) + 1).tolist(), len(columns)]
        given = {"size": [40, 60], "counts": np.diff(ends).tolist()}
    assert mask_bounds(given, None) == [20, 5, 30, 10]


@pytest.mark.parametrize(
    "box",
    [
        [20, 10, 30, 30],
        [19.6, 9.6, 31, 31],  # rounded
        [15, 5, 40, 38],  # of an object that is partly hidden
    ],
)
def test_a_box_that_agrees(box: list[float]) -> None:
    assert mask_bounds([POLYGON], box) is None


@pytest.mark.parametrize(
    "box",
    [
        [20, 60, 30, 30],  # y from the lower edge
        [20, 10, 50, 40],  # corners
        [35, 25, 30, 30],  # centre
        [0.1, 0.1, 0.15, 0.3],  # fractions
    ],
)
def test_a_box_that_is_elsewhere(box: list[float]) -> None:
    assert mask_bounds([POLYGON], box) == [20, 10, 30, 30]


@pytest.mark.parametrize(
    "mask",
    [
        "x",
        7,
        [1, 2, 3],
        [["a", "b"]],
        [[]],
        [[1, 2]],
        [[math.nan, 1, 2, 3]],
        {"size": [4], "counts": "x"},
        {"size": [4, 4], "counts": [3, 4]},
        {"size": [4, 4], "counts": [-3, 19]},
        {"size": [4, 4], "counts": "ooo"},
        {"size": [4, 4], "counts": "\x00"},
        {"size": [10**9, 10**9], "counts": "0"},
        {"size": [4, 4]},
    ],
)
def test_masks_that_are_not_understood_say_nothing(mask: Any) -> None:
    assert mask_bounds(mask, None) is None
    assert mask_bounds(mask, [0, 0, 3, 3]) is None


def test_boxes_that_are_not_understood_are_another_fault() -> None:
    for box in ("abcd", [1, 2, 3], [1, 2, "3", 4], {"x": 1}):
        assert mask_bounds([POLYGON], box) is None
