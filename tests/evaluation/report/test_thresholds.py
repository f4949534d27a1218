"""Precision, recall and F1 over the score, by hand."""

import numpy as np
import pytest

from detector.evaluation.report.thresholds import score_curve


def test_a_curve_by_hand() -> None:
    scores = np.array([0.5, 0.9, 0.7, 0.5])
    right = np.array([True, True, False, False])
    curve = score_curve(scores, right, boxes=4)
    assert curve.thresholds.tolist() == [0.5, 0.7, 0.9]  # equal scores are one point
    assert curve.precision == pytest.approx([2 / 4, 1 / 2, 1])
    assert curve.recall == pytest.approx([2 / 4, 1 / 4, 1 / 4])
    assert curve.f1 == pytest.approx([4 / 8, 2 / 6, 2 / 5])
    best = curve.best()
    assert best is not None
    assert (best.threshold, best.f1) == (0.5, 0.5)


def test_of_equal_f1_the_highest_threshold_is_taken() -> None:
    curve = score_curve(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, False, True]), boxes=2)
    best = curve.best()
    assert best is not None
    assert (best.threshold, best.f1) == (0.9, pytest.approx(2 / 3))


def test_reading_a_curve_at_other_thresholds() -> None:
    curve = score_curve(np.array([0.2, 0.6]), np.array([False, True]), boxes=1).at(np.array([0.0, 0.2, 0.3, 0.6, 0.7]))
    assert curve.thresholds.tolist() == [0.0, 0.2, 0.3, 0.6]  # above all scores there is no precision
    assert curve.precision.tolist() == [0.5, 0.5, 1.0, 1.0]


def test_nothing_has_no_best_threshold() -> None:
    assert score_curve(np.zeros(0), np.zeros(0, bool), 5).best() is None
    assert score_curve(np.array([0.5]), np.array([False]), 0).best() is None
