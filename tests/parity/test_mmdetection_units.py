"""mmdetection's small functions on their own: clamps, edges of levels, ties, the order of saturated scores."""

import pytest
from comparison import ExpectEqual
from mmdetection_units import Units, compare_units, read_units


@pytest.fixture
def units() -> Units:
    return read_units()


def test_small_functions(units: Units, expect_equal: ExpectEqual) -> None:
    expect_equal(compare_units(units), "mmdetection, units")


def test_they_would_notice(units: Units) -> None:
    """There are sides that only the limit of shrinking keeps, saturated scores, and RoIs of every level."""
    widths = units["coder_unit_decoded_noclip"].reshape(-1, 3, 4)
    shrunk = (widths[..., 2] - widths[..., 0]) / (units["coder_boxes"][:, 2] - units["coder_boxes"][:, 0])[:, None]
    assert ((shrunk - 0.016).abs() < 1e-4).any()
    assert (units["rpn_logits"].sigmoid() == 1.0).sum() > 20
    assert set(units["level_of"].tolist()) == {0, 1, 2, 3}
