"""Detections of a whole dataset in the form of COCO results files, checked before anything is scored."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.disk import write_atomically
from detector.errors import UserError
from detector.evaluation.ground_truth import GroundTruth, check_ids, column, read_json


@dataclass(frozen=True)
class Results:
    """D detections as columns.

    image_of, category_of: [D] int64 ids. boxes: [D, 4] float64 (x, y, width, height), absolute pixels of the original
    image. scores: [D] float64.
    """

    image_of: np.ndarray
    category_of: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def only(self, image_ids: np.ndarray) -> "Results":
        """The detections in some of the images."""
        kept = np.isin(self.image_of, image_ids)
        return Results(self.image_of[kept], self.category_of[kept], self.boxes[kept], self.scores[kept])


def check_results(detections: Sequence[Mapping[str, Any]], truth: GroundTruth, source: str = "detections") -> Results:
    """COCO results as columns.

    Raises:
        UserError: an entry lacks a field, is not finite, has a negative extent, or names an image or a category that
            the ground truth does not have.
    """
    image_of = column(detections, "image_id", source, "id")
    category_of = column(detections, "category_id", source, "id")
    boxes = column(detections, "bbox", source, "box")
    scores = column(detections, "score", source, "number")
    negative = np.flatnonzero((boxes[:, 2:] < 0).any(axis=1))
    if len(negative):
        raise UserError(
            f"{source}: entry {negative[0]} has bbox {boxes[negative[0]].tolist()} of negative extent; "
            "boxes are [x, y, width, height]."
        )
    check_ids(image_of, np.sort(truth.image_ids), source, "image", f"are they meant for {truth.source}?")
    known = np.array([category.id for category in truth.categories.categories], np.int64)
    check_ids(category_of, known, source, "category", f"are they meant for {truth.source}?")
    return Results(image_of, category_of, boxes, scores)


def read_results(path: str | Path) -> list[dict[str, Any]]:
    """Read a COCO results file: a list of {image_id, category_id, bbox: [x, y, width, height], score}.

    Raises:
        UserError: the file cannot be read, or is not such a list; its values are checked when it is scored.
    """
    value = read_json(path, "detections")
    if not isinstance(value, list):
        raise UserError(f"{path}: not a COCO results file (a JSON list of detections).")
    for position, entry in enumerate(value):
        if not isinstance(entry, dict):
            raise UserError(f"{path}: entry {position} is not a JSON object; expected a detection.")
    return value


def write_results(path: str | Path, detections: Sequence[Mapping[str, Any]]) -> None:
    """Write a COCO results file that `read_results` reads back unchanged; never half of one."""
    write_atomically(Path(path), json.dumps(list(detections), allow_nan=False).encode())
