"""Ground truth for scoring, as columns. Whatever would make an evaluator fail or mislead is refused or corrected."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from detector.categories import Category, CategoryMap
from detector.datasets.columns import Columns, ordered
from detector.datasets.dataset import DetectionDataset
from detector.datasets.fault_kinds import (
    BAD_AREA,
    BOX_FROM_MASK,
    IGNORE_MARK,
    PLACEHOLDER_CATEGORY,
    STOPS_SCORING,
    SWAPPED_CORNERS,
)
from detector.datasets.faults import refuse, summarise
from detector.datasets.formats.coco import coco_contents, coco_tables
from detector.datasets.formats.contents import Contents
from detector.datasets.formats.parsing import parse
from detector.errors import UserError

# What changes scores and is nevertheless no reason to refuse them.
_NOTED = (BAD_AREA, BOX_FROM_MASK, IGNORE_MARK, PLACEHOLDER_CATEGORY, SWAPPED_CORNERS)


@dataclass(frozen=True)
class GroundTruth:
    """The annotations of a set of images.

    source: what messages call it. categories: of the file. image_ids: [I] int64, unique.
    image_of, category_of: [G] int64, the ids of each annotation's image and category.
    boxes: [G, 4] float64 (x, y, width, height), absolute pixels of the original image.
    areas: [G] float64, square pixels; the area of the mask where the file states it. iscrowd: [G] bool.
    file_names: image ids by file name, as far as names are known.
    annotation_names: G ids of the annotations in the file, or words for where they stand in it; empty if unknown.
    notes: a line for each kind of annotation that was not taken as it stands.
    """

    source: str
    categories: CategoryMap
    image_ids: np.ndarray
    image_of: np.ndarray
    category_of: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    iscrowd: np.ndarray
    file_names: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    annotation_names: Sequence[Any] = ()

    def only(self, image_ids: Iterable[int]) -> "GroundTruth":
        """The part that belongs to some of the images. Raises UserError for an image that is not there."""
        chosen = np.array(sorted(set(image_ids)), np.int64)
        unknown = np.setdiff1d(chosen, self.image_ids)
        if len(unknown):
            raise UserError(f"{self.source}: there is no image with id {some_ids(unknown)}; choose ids of that file.")
        kept = np.isin(self.image_of, chosen)
        return replace(
            self,
            image_ids=chosen,
            image_of=self.image_of[kept],
            category_of=self.category_of[kept],
            boxes=self.boxes[kept],
            areas=self.areas[kept],
            iscrowd=self.iscrowd[kept],
            annotation_names=[name for name, keep in zip(self.annotation_names, kept, strict=False) if keep],
        )


def read_ground_truth(source: str | Path | Mapping[str, Any]) -> GroundTruth:
    """Read annotations from a COCO JSON file, or take them from one already loaded.

    A missing `area` becomes the box's, a missing `iscrowd` 0. A box without area counts, as for pycocotools; exchanged
    corners are put in order, and a negative area becomes the box's. `ignore` is not read: pycocotools overwrites it by
    `iscrowd`. Annotation ids are not used: scoring numbers annotations anew from 1, because evaluators take id 0 for
    "unmatched".

    Raises:
        UserError: the file cannot be read, is not COCO JSON, or holds an annotation that cannot be scored.
    """
    if isinstance(source, Mapping):
        return _to_columns(coco_tables(source, "ground truth"))
    return _to_columns(coco_contents(source))


def ground_truth_from(contents: Contents) -> GroundTruth:
    """The annotations of any format as they stand, under the names that they have there.

    Raises:
        UserError: one cannot be scored.
    """
    return _to_columns(contents)


def ground_truth_of(dataset: DetectionDataset) -> GroundTruth:
    """The ground truth of a dataset: of its COCO file as it stands, so that the score is pycocotools' for that file.

    A dataset leaves out boxes without area and clips others to their pictures, as training wants it; scoring must not.
    For other formats no reference score exists, so the dataset itself is taken.
    """
    if dataset.is_coco_file and dataset.annotation_path is not None:
        return read_ground_truth(dataset.annotation_path)
    return _to_columns(coco_tables(dataset.to_coco(), str(dataset.annotation_path or "ground truth")))


def xyxy(boxes: np.ndarray) -> np.ndarray:
    """Boxes [*, 4] (x, y, width, height) as xyxy."""
    return np.concatenate((boxes[..., :2], boxes[..., :2] + boxes[..., 2:]), axis=-1)


def some_ids(ids: np.ndarray) -> str:
    """The first few of some ids, [N], as messages list them."""
    listed = ", ".join(str(i) for i in ids[:10].tolist())
    return listed + (f", … ({len(ids)} in all)" if len(ids) > 10 else "")


def _to_columns(contents: Contents) -> GroundTruth:
    columns, faults = parse(contents)
    refuse(faults, STOPS_SCORING, contents.source)
    categories = sorted(columns.categories, key=lambda category: category[0])
    category_ids = np.array([number for number, _ in columns.categories], np.int64)
    return GroundTruth(
        source=contents.source,
        categories=CategoryMap(tuple(Category(number, name) for number, name in categories)),
        image_ids=columns.image_ids,
        image_of=columns.image_ids[columns.owners],
        category_of=category_ids[columns.classes],
        boxes=_in_order(columns),
        areas=columns.areas,
        iscrowd=columns.iscrowd,
        file_names=dict(zip(columns.file_names, columns.image_ids.tolist(), strict=True)),
        notes=summarise([fault for fault in faults if fault.kind in _NOTED]),
        annotation_names=columns.annotation_names,
    )


def _in_order(columns: Columns) -> np.ndarray:
    """[B, 4] float64 (x, y, width, height), as they stand but for exchanged corners."""
    swapped = np.any(columns.boxes[:, 2:] < 0, axis=1)
    if not swapped.any():
        return columns.boxes
    low, high = ordered(columns.boxes[:, :2], columns.boxes[:, :2] + columns.boxes[:, 2:])
    return np.where(swapped[:, None], np.hstack([low, high - low]), columns.boxes)
