"""Soft-NMS by hand: who decays, by how much, who is dropped."""

import math

import pytest
import torch

from detector.model.soft_nms import soft_nms

# The second overlaps the first by 50 / 100 = 0.5, the third neither.
BOXES = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0], [20.0, 0.0, 30.0, 10.0]])
SCORES = torch.tensor([0.9, 0.8, 0.6])
ONE_CLASS = torch.tensor([1, 1, 1])


def test_linear_decay_is_one_minus_iou_from_the_threshold_on() -> None:
    chosen, scores = soft_nms(BOXES, SCORES, ONE_CLASS, 0.5, 0.5, 0.05, 100)
    assert chosen.tolist() == [0, 2, 1]
    assert scores.tolist() == pytest.approx([0.9, 0.6, 0.8 * 0.5], abs=1e-6)
    _, scores = soft_nms(BOXES, SCORES, ONE_CLASS, 0.51, 0.5, 0.05, 100)
    assert scores.tolist() == pytest.approx([0.9, 0.8, 0.6], abs=1e-6)


def test_gaussian_decay_has_no_threshold() -> None:
    chosen, scores = soft_nms(BOXES, SCORES, ONE_CLASS, None, 0.5, 0.05, 100)
    assert chosen.tolist() == [0, 2, 1]
    assert scores.tolist() == pytest.approx([0.9, 0.6, 0.8 * math.exp(-(0.5**2) / 0.5)], abs=1e-6)


def test_what_decays_to_the_score_threshold_is_dropped() -> None:
    chosen, _ = soft_nms(BOXES, SCORES, ONE_CLASS, 0.5, 0.5, 0.4, 100)
    assert chosen.tolist() == [0, 2]


def test_classes_do_not_meet_and_the_limit_is_of_all_together() -> None:
    chosen, scores = soft_nms(BOXES, SCORES, torch.tensor([1, 2, 1]), 0.5, 0.5, 0.05, 100)
    assert chosen.tolist() == [0, 1, 2]
    assert scores.tolist() == SCORES.tolist()
    assert soft_nms(BOXES, SCORES, ONE_CLASS, 0.5, 0.5, 0.05, 2)[0].tolist() == [0, 2]


def test_decay_accumulates_over_all_better_boxes() -> None:
    boxes = BOXES[[0, 0, 0]]
    _, scores = soft_nms(boxes, SCORES, ONE_CLASS, None, 0.5, 0.0, 100)
    factor = math.exp(-1 / 0.5)
    assert scores.tolist() == pytest.approx([0.9, 0.8 * factor, 0.6 * factor**2], abs=1e-6)


def test_no_boxes() -> None:
    chosen, scores = soft_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.5, 0.5, 0.0, 9)
    assert (chosen.shape, scores.shape) == ((0,), (0,))
