"""Box voting and weighted fusion by hand."""

import pytest
import torch

from detector.model.box_averages import fuse_boxes, vote

FIRST, SECOND, FAR = [0.0, 0.0, 10.0, 10.0], [2.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]
ONE = torch.tensor([1])


def test_two_boxes_with_scores_1_and_3_vote() -> None:
    boxes = torch.tensor([FIRST, SECOND])
    moved = vote(boxes[1:], ONE, boxes, torch.tensor([1.0, 3.0]), torch.tensor([1, 1]), 0.5)
    assert moved.tolist() == [pytest.approx([1.5, 0.0, 10.0, 10.0], abs=1e-6)]


def test_who_does_not_vote() -> None:
    """Another class, less overlap than the threshold (0.8 here), a score of zero or less."""
    boxes = torch.tensor([FIRST, SECOND, FAR])
    scores, same = torch.tensor([3.0, 1.0, 1.0]), torch.tensor([1, 1, 1])
    stays = [FIRST]
    assert vote(boxes[:1], ONE, boxes, scores, torch.tensor([1, 2, 1]), 0.5).tolist() == stays
    assert vote(boxes[:1], ONE, boxes, scores, same, 0.81).tolist() == stays
    assert vote(boxes[:1], ONE, boxes, torch.tensor([3.0, -1.0, 0.0]), same, 0.5).tolist() == stays
    assert vote(boxes[:1], ONE, boxes, scores, same, 0.8).tolist() != stays  # at the threshold it does vote


def test_a_box_without_support_stays() -> None:
    assert vote(torch.tensor([FAR]), ONE, torch.tensor([FIRST]), torch.tensor([1.0]), ONE, 0.5).tolist() == [FAR]


def test_fusion_of_two_boxes_and_one_apart() -> None:
    boxes = torch.tensor([FAR, FIRST, SECOND])
    fused, scores, classes = fuse_boxes(boxes, torch.tensor([0.3, 0.2, 0.6]), torch.tensor([1, 1, 1]), 0.55, sources=2)
    assert fused.tolist() == [pytest.approx([1.5, 0.0, 10.0, 10.0], abs=1e-6), FAR]
    # The mean of two scores, seen by two of two; one score, seen by one of two.
    assert scores.tolist() == pytest.approx([0.4, 0.3 / 2], abs=1e-6)
    assert classes.tolist() == [1, 1]


def test_more_boxes_than_sources_count_as_all_of_them() -> None:
    boxes = torch.tensor([FIRST, SECOND, FIRST])
    _, scores, _ = fuse_boxes(boxes, torch.tensor([0.9, 0.6, 0.3]), torch.tensor([1, 1, 1]), 0.55, sources=2)
    assert scores.tolist() == pytest.approx([0.6], abs=1e-6)


def test_a_box_joins_the_cluster_whose_mean_it_overlaps_most_and_only_of_its_class() -> None:
    near, nearer = [0.0, 0.0, 10.0, 6.0], [0.0, 0.0, 10.0, 9.0]
    boxes = torch.tensor([FIRST, near, nearer])
    fused, _, _ = fuse_boxes(boxes, torch.tensor([0.9, 0.8, 0.1]), torch.tensor([1, 1, 1]), 0.65)
    # Of scores 0.8 and (0.9 + 0.1) / 2.
    assert fused.tolist() == [near, pytest.approx([0.0, 0.0, 10.0, 0.9 * 10 + 0.1 * 9], abs=1e-6)]
    fused, _, classes = fuse_boxes(boxes[:2], torch.tensor([0.9, 0.8]), torch.tensor([2, 5]), 0.1)
    assert fused.tolist() == boxes[:2].tolist()
    assert classes.tolist() == [2, 5]


def test_no_boxes() -> None:
    none, no_scores, no_classes = torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    assert vote(none, no_classes, none, no_scores, no_classes, 0.5).shape == (0, 4)
    fused, scores, classes = fuse_boxes(none, no_scores, no_classes, 0.55)
    assert (fused.shape, scores.shape, classes.dtype) == ((0, 4), (0,), torch.int64)
