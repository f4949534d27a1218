import dataclasses
import math

import pytest
import torch
from benchmarking.agreement import (
    NEAR_IOU,
    SAME_IOU,
    Agreement,
    Mean,
    compare,
    refusal_exact,
    refusal_near,
)

from detector.structures import Selection


def detections(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Selection:
    return Selection(torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels))


TWO = detections([[0, 0, 10, 10], [20, 0, 40, 20]], [0.9, 0.5], [1, 2])


def test_the_same_in_another_order() -> None:
    other = detections([[20, 0, 40, 20], [0, 0, 10, 10]], [0.5004, 0.9], [2, 1])
    found = compare([TWO], [other], SAME_IOU)
    assert found.is_same
    assert refusal_exact(found) is None
    assert found.score == pytest.approx(4e-4, rel=1e-2)
    assert found.overlap.value == 1


@pytest.mark.parametrize(
    "other",
    [
        detections([[0, 0, 10, 10]], [0.9], [1]),  # one is missing
        detections([[0, 0, 10, 10], [20, 0, 40, 20]], [0.9, 0.5], [1, 3]),  # another label
        detections([[0, 0, 10, 10], [20, 0, 40, 21]], [0.9, 0.5], [1, 2]),  # another box
        detections([[0, 0, 10, 10], [20, 0, 40, 20]], [0.9, 0.502], [1, 2]),  # another score
        detections([[0, 0, 10, 10], [0, 0, 10, 10]], [0.9, 0.5], [1, 1]),  # one twice
    ],
)
def test_not_the_same(other: Selection) -> None:
    assert refusal_exact(compare([TWO], [other], SAME_IOU)) is not None


def test_a_sliver_is_the_same_when_its_corners_are() -> None:
    sliver = detections([[425.0, 799.15, 876.0, 800.0]], [0.7], [1])
    near = detections([[425.0, 799.161, 876.0, 800.0]], [0.7], [1])  # IoU 0.987
    far = detections([[425.0, 799.175, 876.0, 800.0]], [0.7], [1])
    other = dataclasses.replace(near, labels=torch.tensor([2]))
    assert compare([sliver], [near], SAME_IOU).is_same
    assert not compare([sliver], [far], SAME_IOU).is_same
    assert not compare([sliver], [other], SAME_IOU).is_same


def test_nothing_found_proves_nothing() -> None:
    nothing = detections([], [], [])
    found = compare([nothing], [nothing], SAME_IOU)
    assert not found.is_same
    assert found.overlap == Mean(0.0, math.inf)


def test_what_has_no_partner_counts_as_a_whole() -> None:
    # The first box of each overlaps by 50 / 150, below the limit; the second by 4/5 and 0.1 in score.
    other = detections([[5, 0, 15, 10], [20, 0, 40, 16]], [0.7, 0.4], [1, 2])
    found = compare([TWO], [other], NEAR_IOU)
    assert found.matched == 1
    assert found.overlap.value == pytest.approx((0.8 + 0.8) / 4)
    assert found.shift.value == pytest.approx((0.1 + 0.1 + 0.9 + 0.7) / 4)
    assert found.box == 4


def moved(overlap: float, shift: float, error: float = 0.0) -> Agreement:
    return Agreement((10, 10), 5, Mean(overlap, error), Mean(shift, error), 0.0, 0.0)


def test_bfloat16_may_be_as_far_off_as_the_peer_s_but_not_farther() -> None:
    assert refusal_near(moved(0.5, 0.2), moved(0.5, 0.2)) is None
    assert refusal_near(moved(0.9, 0.1), moved(0.5, 0.2)) is None
    assert refusal_near(moved(0.4, 0.2), moved(0.5, 0.2)) is not None
    assert refusal_near(moved(0.5, 0.25), moved(0.5, 0.2)) is not None
    assert refusal_near(moved(0.4, 0.2, error=0.1), moved(0.5, 0.2)) is None
