"""Annotations that a trained model contradicts with confidence: where to look for errors of the labels first."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from detector.boxes import pairwise_iou
from detector.evaluation.ground_truth import GroundTruth, xyxy
from detector.evaluation.results import Results

Kind = Literal["missing label", "wrong label", "doubtful box"]

MOST = 60  # candidates, the surest
CONFIDENT = 0.5  # the least score of a detection that contradicts
NOTHING_THERE, SAME_PLACE, SAME_OBJECT = 0.1, 0.7, 0.5  # overlaps (IoU)
UNSEEN = 0.3  # a box that no detection overlaps by so much, whatever its class and score
ENOUGH = 5  # other boxes of a class, to say that it is found well
ALIKE = 4.0  # times a box's area: boxes up to this size are comparable with it, for small ones are found less often


@dataclass(frozen=True)
class LabelError:
    """A candidate for an error of the annotations.

    kind: a confident detection where no box is; one of another class on a box; or a box that nothing detects though its
    class is found well. score: the detection's, or of a doubtful box how surely its class is found, the mean of the
    scores of comparable boxes. box: (x, y, width, height), pixels of the original image: the annotation's, or of a
    missing label the detection's. annotation: its row in the ground truth; None for a missing label. label: the
    annotation's, suggested: the detection's; empty where there is none.
    """

    kind: Kind
    score: float
    image_id: int
    box: tuple[float, float, float, float]
    annotation: int | None
    label: str
    suggested: str


def label_errors(truth: GroundTruth, results: Results, most: int = MOST) -> list[LabelError]:
    """The candidates, the surest first, `most` at most.

    Args:
        truth: the annotations.
        results: a model's detections of the same pictures, those of low scores too.
        most: how many.
    """
    scores = np.zeros(len(truth.image_of))  # of the surest detection of the box's own class that matches it
    seen = np.zeros(len(truth.image_of), bool)
    candidates: list[LabelError] = []
    for picture in _pictures(truth, results):
        boxes, detections = picture.boxes, picture.detections
        scores[boxes] = np.where(picture.matches, results.scores[detections][:, None], 0).max(axis=0, initial=0)
        seen[boxes] = (picture.overlaps >= UNSEEN).any(axis=0)
        candidates += _contradictions(picture, truth, results, scores)
    candidates += _doubtful_boxes(truth, scores, seen)
    return sorted(candidates, key=lambda one: -one.score)[:most]


@dataclass(frozen=True)
class _Picture:
    """A picture's rows in results [D] and annotations [G], surest detection first, and how they lie to each other.

    overlaps: [D, G], 0 for crowds. matches: [D, G] bool, of one class and the same object. in_crowd: [D] bool.
    """

    image_id: int
    detections: np.ndarray
    boxes: np.ndarray
    overlaps: np.ndarray
    matches: np.ndarray
    in_crowd: np.ndarray


def _pictures(truth: GroundTruth, results: Results) -> Iterator[_Picture]:
    by_image = np.argsort(truth.image_of, kind="stable")
    surest_first = np.argsort(-results.scores, kind="stable")
    surest_first = surest_first[np.argsort(results.image_of[surest_first], kind="stable")]
    for image_id in truth.image_ids.tolist():
        boxes = _rows_of(image_id, truth.image_of, by_image)
        detections = _rows_of(image_id, results.image_of, surest_first)
        overlaps = _overlaps(results.boxes[detections], truth.boxes[boxes])
        crowd = truth.iscrowd[boxes]
        inside = _share_inside(results.boxes[detections], truth.boxes[boxes][crowd])
        overlaps = np.where(crowd, 0, overlaps)
        same_class = results.category_of[detections][:, None] == truth.category_of[boxes]
        yield _Picture(
            image_id=image_id,
            detections=detections,
            boxes=boxes,
            overlaps=overlaps,
            matches=same_class & (overlaps >= SAME_OBJECT),
            in_crowd=np.any(inside >= SAME_OBJECT, axis=1),
        )


def _contradictions(
    picture: _Picture, truth: GroundTruth, results: Results, scores: np.ndarray
) -> Iterator[LabelError]:
    """Missing and wrong labels of a picture; the surest detection speaks for the others on the same object."""
    told = np.zeros(len(picture.boxes), bool)
    missing: list[np.ndarray] = []
    for place, row in enumerate(picture.detections.tolist()):
        score = float(results.scores[row])
        if score < CONFIDENT:
            return
        if picture.in_crowd[place] or picture.matches[place].any():
            continue
        overlaps = picture.overlaps[place]
        nearest = int(overlaps.argmax()) if len(overlaps) else -1
        overlap = float(overlaps[nearest]) if len(overlaps) else 0.0
        suggested = _class_name(truth, int(results.category_of[row]))
        if overlap < NOTHING_THERE:
            box = results.boxes[row]
            if _is_new(box, missing):
                missing.append(box)
                yield LabelError("missing label", score, picture.image_id, _four(box), None, "", suggested)
        elif overlap >= SAME_PLACE and not told[nearest] and score > scores[picture.boxes[nearest]]:
            told[nearest] = True
            annotation = int(picture.boxes[nearest])
            label = _class_name(truth, int(truth.category_of[annotation]))
            box = truth.boxes[annotation]
            yield LabelError("wrong label", score, picture.image_id, _four(box), annotation, label, suggested)


def _doubtful_boxes(truth: GroundTruth, scores: np.ndarray, seen: np.ndarray) -> Iterator[LabelError]:
    """Boxes that nothing detects, while other boxes of their class, no larger than some times their size, are found."""
    sizes = truth.boxes[:, 2] * truth.boxes[:, 3]
    for category in np.unique(truth.category_of[~seen]).tolist():
        rows = np.flatnonzero((truth.category_of == category) & ~truth.iscrowd)
        rows = rows[np.argsort(sizes[rows], kind="stable")]
        totals = np.cumsum(scores[rows])
        for row in rows[~seen[rows]].tolist():
            count = int(np.searchsorted(sizes[rows], ALIKE * sizes[row], side="right"))
            if count - 1 < ENOUGH:
                count = len(rows)
            if count - 1 < ENOUGH:
                continue
            sureness = float(totals[count - 1]) / (count - 1)  # the box itself, which adds nothing, left out
            if sureness >= CONFIDENT:
                box, label = _four(truth.boxes[row]), _class_name(truth, category)
                yield LabelError("doubtful box", sureness, int(truth.image_of[row]), box, row, label, "")


def _rows_of(image_id: int, image_of: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The rows of a picture among rows in the order of their pictures."""
    low, high = (np.searchsorted(image_of, image_id, side=side, sorter=order) for side in ("left", "right"))
    return order[low:high]


def _is_new(box: np.ndarray, others: list[np.ndarray]) -> bool:
    """Whether no other box is the same object."""
    return not others or float(_overlaps(box[None], np.stack(others)).max()) < SAME_OBJECT


def _share_inside(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """[D, C]: which share of each box (x, y, width, height) lies in each region."""
    low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], (regions[:, :2] + regions[:, 2:])[None])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    return np.asarray(shared / np.maximum(boxes[:, 2:].prod(axis=1), 1e-9)[:, None])


def _overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[A, B]: the IoU of every pair of boxes [A, 4] and [B, 4] (x, y, width, height)."""
    return pairwise_iou(torch.from_numpy(xyxy(first)), torch.from_numpy(xyxy(second))).numpy()


def _four(box: np.ndarray) -> tuple[float, float, float, float]:
    x, y, width, height = box.tolist()
    return x, y, width, height


def _class_name(truth: GroundTruth, category_id: int) -> str:
    return truth.categories.name_of(truth.categories.label_of(category_id))
