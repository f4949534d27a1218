"""Precision, recall and F1 at every score threshold, and the threshold that is best on this data."""

from dataclasses import dataclass

import numpy as np

ENOUGH_BOXES = 20  # of a class: a threshold chosen on fewer is chance


@dataclass(frozen=True)
class Operating:
    """How the detections with scores from a threshold on do: precision, recall and F1 in [0, 1], at IoU 0.5."""

    threshold: float
    f1: float
    precision: float
    recall: float


@dataclass(frozen=True)
class ScoreCurve:
    """Precision, recall and F1 as functions of the score threshold, each [T] float64; thresholds ascend."""

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray

    def best(self) -> Operating | None:
        """Where F1 is largest, at the highest threshold of several; None where it is 0 everywhere."""
        if not len(self.f1) or self.f1.max() <= 0:
            return None
        i = int(len(self.f1) - 1 - np.argmax(self.f1[::-1]))
        values = self.thresholds[i], self.f1[i], self.precision[i], self.recall[i]
        return Operating(*(float(value) for value in values))

    def at(self, grid: np.ndarray) -> "ScoreCurve":
        """The curve read at other thresholds, [S] ascending; above all scores precision is undefined, and left out."""
        places = np.searchsorted(self.thresholds, grid)
        inside = places < len(self.thresholds)
        rows = places[inside]
        return ScoreCurve(grid[inside], self.precision[rows], self.recall[rows], self.f1[rows])


def score_curve(scores: np.ndarray, right: np.ndarray, boxes: int) -> ScoreCurve:
    """The curve of some detections, one point for each score that occurs.

    Args:
        scores: [D] float64.
        right: [D] bool, whether a detection matches a box of the ground truth.
        boxes: of the ground truth, crowds left out.
    """
    order = np.argsort(-scores, kind="stable")
    descending = scores[order]
    hits = np.cumsum(right[order])
    last = np.flatnonzero(np.append(descending[1:] != descending[:-1], True)) if len(order) else order  # of equal ones
    true, count = hits[last].astype(np.float64), last + 1.0
    precision, recall = true / count, true / max(boxes, 1)
    f1 = 2 * true / np.maximum(count + boxes, 1)
    return ScoreCurve(descending[last][::-1], precision[::-1], recall[::-1], f1[::-1])
