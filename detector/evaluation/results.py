"""Detections of a whole dataset in the form of COCO results files, checked before anything is scored."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

from detector.datasets.formats.coco import read_json
from detector.datasets.formats.numbers import whole_numbers
from detector.disk import write_atomically
from detector.errors import UserError, shown
from detector.evaluation.ground_truth import GroundTruth, some_ids
from detector.evaluation.result_names import check_category_names, image_ids_by_name

Kind = Literal["number", "box"]


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
        """The detections in the images with these ids, [I] int64."""
        return self.chosen(np.isin(self.image_of, image_ids))

    def chosen(self, kept: np.ndarray) -> "Results":
        """The detections that a mask, [D] bool, marks."""
        return Results(self.image_of[kept], self.category_of[kept], self.boxes[kept], self.scores[kept])


def check_results(detections: Sequence[Mapping[str, Any]], truth: GroundTruth, source: str = "detections") -> Results:
    """COCO results as columns.

    Where entries have a `file_name`, it says whose they are: programs that know no annotations number pictures as they
    come. Else `image_id` does.

    Raises:
        UserError: an entry lacks a field, is not finite, has a negative extent, names an image or a category that the
            ground truth does not have, or names and ids contradict each other.
    """
    image_of = _ids(detections, "image_id", source)
    category_of = _ids(detections, "category_id", source)
    boxes = _column(detections, "bbox", source, "box")
    scores = _column(detections, "score", source, "number")
    negative = np.flatnonzero((boxes[:, 2:] < 0).any(axis=1))
    if len(negative):
        raise UserError(
            f"{source}: entry {negative[0]} has bbox {boxes[negative[0]].tolist()} of negative extent; "
            "boxes are [x, y, width, height]."
        )
    if any("file_name" in entry for entry in detections) and any(truth.file_names):
        image_of = image_ids_by_name(detections, image_of, truth, source)
    else:
        _check_known(image_of, np.sort(truth.image_ids), "image", source, truth)
    known = np.array([category.id for category in truth.categories.categories], np.int64)
    _check_known(category_of, known, "category", source, truth)
    check_category_names(detections, category_of, truth, source)
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


def _ids(entries: Sequence[Mapping[str, Any]], key: str, source: str) -> np.ndarray:
    """[N] int64, the ids under a key. Raises UserError naming the first entry without one."""
    ids, good = whole_numbers([entry.get(key) for entry in entries])
    if not good.all():
        position = int(np.argmin(good))
        _refuse_entry(entries[position], position, key, source, "a whole number below 2^63, not text")
    return ids


def _column(entries: Sequence[Mapping[str, Any]], key: str, source: str, kind: Kind) -> np.ndarray:
    """The values of `key` in all entries, as [N] float64 ("number") or [N, 4] float64 ("box").

    Raises:
        UserError: naming the first entry whose value is missing, of another type, or not finite.
    """
    shape = (len(entries), 4) if kind == "box" else (len(entries),)
    if not entries:
        return np.zeros(shape)
    try:
        values = np.array([entry[key] for entry in entries])
        if values.shape == shape and values.dtype.kind in "iuf" and np.isfinite(values).all():
            return values.astype(np.float64)
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    expected = "four finite numbers" if kind == "box" else "a finite number"
    for position, entry in enumerate(entries):
        if not _is_good(entry.get(key), kind):
            _refuse_entry(entry, position, key, source, expected)
    raise AssertionError(f"no entry of {source} is to blame for {key}")


def _refuse_entry(entry: Mapping[str, Any], position: int, key: str, source: str, expected: str) -> NoReturn:
    if key not in entry:
        raise UserError(f"{source}: entry {position} has no {key}; add it or remove the entry.")
    raise UserError(f"{source}: entry {position} has {key} {shown(entry[key])}; expected {expected}.")


def _is_good(value: Any, kind: Kind) -> bool:
    if kind == "box":
        return isinstance(value, list | tuple | np.ndarray) and len(value) == 4 and all(map(_is_finite, value))
    return _is_finite(value)


def _is_finite(value: Any) -> bool:
    if isinstance(value, int):  # which Python allows to be larger than any array holds
        return not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, float | np.number) and math.isfinite(value)


def _check_known(ids: np.ndarray, known: np.ndarray, what: str, source: str, truth: GroundTruth) -> None:
    """Raise UserError unless all of `ids`, of each entry's image or category, are among the annotations' own."""
    unknown = np.setdiff1d(ids, known)
    if len(unknown):
        count = int(np.isin(ids, unknown).sum())
        raise UserError(
            f"{source}: {count} of {len(ids)} entries name {what} ids that are not in the annotations: "
            f"{some_ids(unknown)} (there are {some_ids(known)}); are they meant for {truth.source}?"
        )
