"""Matching by IoU, down to the tie rule."""

import torch

from detector.training.matcher import IGNORED, NEGATIVE, POSITIVE, match


def labels(iou: list[list[float]], keep_best: bool = True) -> list[int]:
    return match(torch.tensor(iou), positive_iou=0.7, negative_iou=0.3, keep_best=keep_best).labels.tolist()


def test_the_thresholds_themselves_belong_to_the_class_above() -> None:
    iou = [[0.1, 0.29, 0.3, 0.5, 0.69, 0.7, 0.9]]
    assert labels(iou) == [NEGATIVE, NEGATIVE, IGNORED, IGNORED, IGNORED, POSITIVE, POSITIVE]


def test_each_candidate_stands_for_the_box_it_overlaps_most() -> None:
    iou = torch.tensor([[0.8, 0.1, 0.7], [0.2, 0.9, 0.75]])
    found = match(iou, 0.7, 0.3, keep_best=True)
    assert found.index.tolist() == [0, 1, 1]
    assert found.labels.tolist() == [POSITIVE, POSITIVE, POSITIVE]


def test_a_box_that_no_candidate_fits_well_keeps_its_best() -> None:
    iou = [[0.8, 0.1, 0.0], [0.0, 0.2, 0.1]]
    assert labels(iou) == [POSITIVE, POSITIVE, NEGATIVE]
    assert labels(iou, keep_best=False) == [POSITIVE, NEGATIVE, NEGATIVE]


def test_all_candidates_that_tie_for_a_boxs_best_are_kept() -> None:
    assert labels([[0.4, 0.4, 0.39, 0.4]]) == [POSITIVE, POSITIVE, IGNORED, POSITIVE]
    assert labels([[0.2, 0.2, 0.1]]) == [POSITIVE, POSITIVE, NEGATIVE]


def test_a_candidate_that_is_kept_for_a_box_still_stands_for_the_one_it_overlaps_more() -> None:
    # The second candidate is the best that the second box has, yet overlaps the first box more.
    iou = torch.tensor([[0.9, 0.6], [0.1, 0.5]])
    found = match(iou, 0.7, 0.3, keep_best=True)
    assert found.labels.tolist() == [POSITIVE, POSITIVE]
    assert found.index.tolist() == [0, 0]


def test_a_box_that_overlaps_nothing_makes_nothing_positive() -> None:
    assert labels([[0.8, 0.0, 0.1], [0.0, 0.0, 0.0]]) == [POSITIVE, NEGATIVE, NEGATIVE]


def test_without_boxes_all_candidates_are_negative() -> None:
    found = match(torch.zeros(0, 3), 0.7, 0.3, keep_best=True)
    assert found.labels.tolist() == [NEGATIVE] * 3
    assert found.index.tolist() == [0] * 3


def test_without_candidates() -> None:
    for keep_best in (True, False):
        found = match(torch.zeros(2, 0), 0.7, 0.3, keep_best)
        assert found.labels.shape == found.index.shape == (0,)
        assert found.labels.dtype == found.index.dtype == torch.int64


def test_equal_thresholds_leave_nothing_to_ignore() -> None:
    found = match(torch.tensor([[0.49, 0.5, 0.51]]), 0.5, 0.5, keep_best=False)
    assert found.labels.tolist() == [NEGATIVE, POSITIVE, POSITIVE]
