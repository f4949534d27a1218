"""Ground truth for scoring, as columns, with everything checked that would make an evaluator fail or lie."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

from detector.categories import CategoryMap
from detector.datasets.dataset import DetectionDataset
from detector.errors import UserError, shown

Kind = Literal["id", "number", "box"]

MAX_ID = 2**62  # safely inside int64, also where it was rounded to a float
MAX_WHOLE = 2**63


@dataclass(frozen=True)
class GroundTruth:
    """The annotations of a set of images.

    source: for messages. image_ids: [I] int64, unique. Of the G annotations: image_of, category_of: [G] int64 ids;
    boxes: [G, 4] float64 (x, y, width, height), absolute pixels of the original image; areas: [G] float64 square
    pixels, of the mask where the file says so; iscrowd: [G] bool.
    """

    source: str
    categories: CategoryMap
    image_ids: np.ndarray
    image_of: np.ndarray
    category_of: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    iscrowd: np.ndarray

    def only(self, image_ids: Iterable[int]) -> "GroundTruth":
        """The part that belongs to some of the images. Raises UserError for an image that is not there."""
        chosen = np.array(sorted(set(image_ids)), np.int64)
        unknown = np.setdiff1d(chosen, self.image_ids)
        if len(unknown):
            raise UserError(f"{self.source}: there is no image with id {_some(unknown)}; choose ids of that file.")
        kept = np.isin(self.image_of, chosen)
        return GroundTruth(
            self.source,
            self.categories,
            chosen,
            self.image_of[kept],
            self.category_of[kept],
            self.boxes[kept],
            self.areas[kept],
            self.iscrowd[kept],
        )


def read_ground_truth(source: str | Path | Mapping[str, Any]) -> GroundTruth:
    """Read annotations from a COCO JSON file, or take them from one already loaded.

    A missing `area` becomes the box's, a missing `iscrowd` 0. Annotation ids are not used: scoring numbers them anew
    from 1, because evaluators take id 0 for "unmatched".

    Raises:
        UserError: the file cannot be read, is not COCO JSON, or holds an annotation that cannot be scored.
    """
    if isinstance(source, Mapping):
        return _to_columns(source, "ground truth")
    value = read_json(source, "annotations")
    if not isinstance(value, dict):
        raise UserError(f"{source}: not a COCO annotation file (a JSON object with images, annotations, categories).")
    return _to_columns(value, str(source))


def ground_truth_of(dataset: DetectionDataset) -> GroundTruth:
    """The ground truth of a dataset: of its COCO file as it stands, so that the score is pycocotools' for that file.

    A dataset leaves out boxes without area and clips others to their pictures, as training wants it; scoring must not.
    Other formats have no score of record and are taken from the dataset.
    """
    path = dataset.annotation_path
    return read_ground_truth(path if path is not None and path.endswith(".json") else dataset.to_coco())


def read_json(path: str | Path, what: str) -> Any:
    """Parse a JSON file. Raises UserError with one sentence; `what` names the content."""
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot read the {what} ({error.strerror}); check the path.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}).") from None


def column(entries: Sequence[Mapping[str, Any]], key: str, source: str, kind: Kind) -> np.ndarray:
    """The values of `key` in all entries, as [N] int64 (kind "id"), [N] float64 ("number") or [N, 4] float64 ("box").

    Raises:
        UserError: naming the first entry whose value is missing, of another type, or not finite.
    """
    dtype = np.int64 if kind == "id" else np.float64
    shape = (len(entries), 4) if kind == "box" else (len(entries),)
    if not entries:
        return np.zeros(shape, dtype)
    try:
        values = np.array([entry[key] for entry in entries])
    except (KeyError, TypeError, ValueError, OverflowError):
        _name_bad_entry(entries, key, source, kind)
    good = values.shape == shape and values.dtype.kind in "iuf" and bool(np.isfinite(values).all())
    if kind == "id":  # beyond int64, a cast would give any number
        good = good and bool((np.abs(values.astype(np.float64)) < MAX_ID).all())
        good = good and np.array_equal(values, np.floor(values))
    if not good:
        _name_bad_entry(entries, key, source, kind)
    return values.astype(dtype)


def _name_bad_entry(entries: Sequence[Mapping[str, Any]], key: str, source: str, kind: Kind) -> NoReturn:
    """Raise UserError for the first entry that `column` cannot take."""
    expected = {"id": "a whole number", "number": "a finite number", "box": "four finite numbers"}[kind]
    for position, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise UserError(f"{source}: entry {position} is not a JSON object; expected one with {key}.")
        if key not in entry:
            raise UserError(f"{source}: entry {position} has no {key}; add it or remove the entry.")
        value = entry[key]
        if not _is_good(value, kind):
            raise UserError(f"{source}: entry {position} has {key} {shown(value)}; expected {expected}.")
    raise AssertionError(f"no entry of {source} is to blame for {key}")


def _is_good(value: Any, kind: Kind) -> bool:
    if kind == "box":
        return isinstance(value, (list, tuple, np.ndarray)) and len(value) == 4 and all(map(_is_finite, value))
    return _is_finite(value) and (kind == "number" or (value == int(value) and abs(value) < MAX_ID))


def _is_finite(value: Any) -> bool:
    if isinstance(value, int):  # which Python allows to be larger than any array holds
        return not isinstance(value, bool) and abs(value) < MAX_WHOLE
    return isinstance(value, (float, np.number)) and math.isfinite(value)


def check_ids(ids: np.ndarray, known: np.ndarray, source: str, what: str, remedy: str) -> None:
    """Raise UserError unless all of `ids` are among `known`."""
    unknown = np.setdiff1d(ids, known)
    if len(unknown):
        count = int(np.isin(ids, unknown).sum())
        raise UserError(
            f"{source}: {count} of {len(ids)} entries name {what} ids that are not in the annotations: "
            f"{_some(unknown)} (there are {_some(known)}); {remedy}"
        )


def _some(ids: np.ndarray) -> str:
    shown = ", ".join(str(i) for i in ids[:10].tolist())
    return shown + (f", … ({len(ids)} in all)" if len(ids) > 10 else "")


def _to_columns(coco: Mapping[str, Any], source: str) -> GroundTruth:
    for key in ("images", "annotations", "categories"):
        if not isinstance(coco.get(key), (list, tuple)):
            raise UserError(f"{source}: has no list of {key}; a COCO annotation file with boxes is needed.")
    annotations = coco["annotations"]
    image_ids = column(coco["images"], "id", f"{source}: images", "id")
    if len(np.unique(image_ids)) < len(image_ids):
        raise UserError(f"{source}: image ids are not unique; give every image its own id.")
    category_ids = column(coco["categories"], "id", f"{source}: categories", "id")
    if any("name" not in category for category in coco["categories"]):
        raise UserError(f"{source}: a category has no name; add one to each.")
    if len(np.unique(category_ids)) < len(category_ids):
        raise UserError(f"{source}: category ids are not unique; give every category its own id.")
    categories = CategoryMap.from_coco(coco["categories"])

    where = f"{source}: annotations"
    image_of = column(annotations, "image_id", where, "id")
    category_of = column(annotations, "category_id", where, "id")
    boxes = column(annotations, "bbox", where, "box")
    sized = [
        annotation if annotation.get("area") is not None else {"area": width * height}
        for annotation, (_, _, width, height) in zip(annotations, boxes.tolist(), strict=True)
    ]
    areas = column(sized, "area", where, "number")
    iscrowd = np.array([bool(annotation.get("iscrowd")) for annotation in annotations], bool)
    check_ids(image_of, np.sort(image_ids), where, "image", "add the images or remove the annotations.")
    known = np.array([category.id for category in categories.categories], np.int64)
    check_ids(category_of, known, where, "category", "add the categories or remove the annotations.")
    return GroundTruth(source, categories, image_ids, image_of, category_of, boxes, areas, iscrowd)
