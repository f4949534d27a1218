"""detectron2's small functions on their own."""

import pytest
import torch
from comparison import Comparison, ExpectEqual
from detectron2_cases import EMBEDDED
from detectron2_units import Units, compare_nms, compare_resize_shapes, compare_schedules, compare_units, read_units


@pytest.fixture
def units(device: torch.device) -> Units:
    return read_units(EMBEDDED, device)


def test_units(units: Units, expect_equal: ExpectEqual) -> None:
    expect_equal(compare_units(units), "units")


@pytest.mark.parametrize("moved", [-3000.0, -137.0, 900.0])
def test_nms_wherever_the_boxes_begin(units: Units, moved: float, expect_equal: ExpectEqual) -> None:
    """The comparison itself cuts no box, however far outside of an image it was recorded."""
    found = Comparison()
    units["nms_small_boxes"] += moved
    compare_nms(found, units, "small")
    expect_equal(found, "units")


def test_resize_shapes(expect_equal: ExpectEqual) -> None:
    expect_equal(compare_resize_shapes(EMBEDDED), "resize")


def test_learning_rates(expect_equal: ExpectEqual) -> None:
    expect_equal(compare_schedules(EMBEDDED), "learning rates")
