"""detectron2's small functions on their own."""

from pathlib import Path

import pytest
from comparison import ExpectEqual
from detectron2_units import compare_resize_shapes, compare_schedules, compare_units, read_units


@pytest.fixture(scope="module")
def root(shared: Path) -> Path:
    return shared / "fixtures" / "detectron2"


def test_units(root: Path, expect_equal: ExpectEqual) -> None:
    expect_equal(compare_units(read_units(root)), "units")


def test_resize_shapes(root: Path, expect_equal: ExpectEqual) -> None:
    expect_equal(compare_resize_shapes(root), "resize")


def test_learning_rates(root: Path, expect_equal: ExpectEqual) -> None:
    expect_equal(compare_schedules(root), "learning rates")
