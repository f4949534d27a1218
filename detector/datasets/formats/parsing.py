"""The contents of a COCO file as columns, in passes over whole tables: each list of values is judged at once, and only
where something is wrong entry by entry."""

import math
from itertools import chain
from typing import Any

import numpy as np

from detector.datasets import fault_kinds as kinds
from detector.datasets.columns import Columns
from detector.datasets.faults import Fault
from detector.datasets.formats.box_forms import are_fractions
from detector.datasets.formats.categories_table import parse_categories
from detector.datasets.formats.coco import MASK_BOUNDS
from detector.datasets.formats.contents import Contents, Row
from detector.datasets.formats.images_table import parse_images
from detector.datasets.formats.numbers import is_number, whole_numbers
from detector.errors import shown


def parse(contents: Contents) -> tuple[Columns, list[Fault]]:
    """Columns, and the faults of entries, values and references that could not be read as they stand."""
    faults: list[Fault] = list(contents.faults)
    rows = contents.annotations
    images = parse_images(contents.images, faults)
    wanted, has_category = whole_numbers([row.get("category_id") for row in rows])
    categories, category_places = parse_categories(contents.categories, np.unique(wanted[has_category]), faults)
    boxes, readable, from_mask = _boxes(rows)
    annotation_ids, has_id = whole_numbers([row.get("id") for row in rows])
    areas, bad_areas = _areas(rows, boxes)
    iscrowd, bad_crowds = _crowds(rows)
    columns = Columns(
        source=contents.source,
        image_ids=images.ids,
        file_names=images.file_names,
        sizes=images.sizes,
        image_places=images.places,
        category_places=category_places,
        annotation_names=_annotation_names(contents),
        annotation_ids=annotation_ids if has_id.all() else None,
        owners=_positions(*whole_numbers([row.get("image_id") for row in rows]), images.ids),
        classes=_positions(wanted, has_category, np.array([number for number, _ in categories], np.int64)),
        boxes=boxes,
        corners=_corners(boxes) if contents.corners is None else contents.corners,
        readable=readable,
        areas=areas,
        iscrowd=iscrowd,
        categories=categories,
    )
    for kind, key, bad in (
        (kinds.UNKNOWN_IMAGE, "image_id", columns.owners < 0),
        (kinds.UNKNOWN_CATEGORY, "category_id", columns.classes < 0),
        (kinds.MALFORMED_BOX, "bbox", ~readable),
        (kinds.BOX_FROM_MASK, MASK_BOUNDS, from_mask),
        (kinds.BAD_AREA, "area", bad_areas),
        (kinds.BAD_CROWD, "iscrowd", bad_crowds),
        (kinds.IGNORE_MARK, "ignore", _ignore_marks(rows) & ~iscrowd),
    ):
        faults += [
            columns.box_fault(kind, box, f"{key} {shown(rows[box].get(key))}") for box in np.flatnonzero(bad).tolist()
        ]
    if are_fractions(columns):
        faults.append(columns.box_fault(kinds.FRACTIONS, 0, columns.describe_box(0)))
    finite = readable & np.isfinite(boxes).all(axis=1)
    for kind, bad in (
        (kinds.NON_FINITE_BOX, readable & ~finite),
        (kinds.SWAPPED_CORNERS, finite & (boxes[:, 2:] < 0).any(axis=1)),
        (kinds.BOX_BESIDE_MASK, readable & ~from_mask & _has_bounds(rows)),
    ):
        for box in np.flatnonzero(bad).tolist():
            detail = columns.describe_box(box)
            if kind is kinds.BOX_BESIDE_MASK:
                detail += f", {MASK_BOUNDS} {shown(rows[box][MASK_BOUNDS])}"
            faults.append(columns.box_fault(kind, box, detail))
    return columns, faults


def _annotation_names(contents: Contents) -> list[Any]:
    if contents.annotation_names is not None:
        return contents.annotation_names
    ids = [row.get("id") for row in contents.annotations]
    if set(map(type, ids)) <= {int}:
        return ids
    return [f"number {n}" if value is None else shown(value) for n, value in enumerate(ids, start=1)]


def _positions(wanted: np.ndarray, good: np.ndarray, known: np.ndarray) -> np.ndarray:
    """[B] int64: where the id that each annotation names stands among the known ones (first), or −1."""
    if len(known) == 0 or len(wanted) == 0:
        return np.full(len(wanted), -1, np.int64)
    order = np.argsort(known, kind="stable")
    places = order[np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)]
    return np.where(good & (known[places] == wanted), places, -1)


def _boxes(rows: list[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[B, 4] float64 and twice [B] bool: which could be read, and which of these are the bounds of a segmentation."""
    values: list[Any] = [row.get("bbox") for row in rows]
    nowhere = np.zeros(len(rows), bool)
    if set(map(type, values)) <= {list} and set(map(len, values)) <= {4}:
        numbers = list(chain.from_iterable(values))
        if set(map(type, numbers)) <= {int, float}:
            try:
                return np.array(numbers, np.float64).reshape(-1, 4), np.ones(len(rows), bool), nowhere
            except OverflowError:  # one by one, then
                pass
    from_mask = np.array([not value and MASK_BOUNDS in row for value, row in zip(values, rows, strict=True)], bool)
    values = [row[MASK_BOUNDS] if mask else value for value, row, mask in zip(values, rows, from_mask, strict=True)]
    readable = [isinstance(v, list | tuple) and len(v) == 4 and all(map(is_number, v)) for v in values]
    boxes = [v if good else [math.nan] * 4 for v, good in zip(values, readable, strict=True)]
    return np.array(boxes, np.float64).reshape(-1, 4), np.array(readable, bool), from_mask


def _has_bounds(rows: list[Row]) -> np.ndarray:
    return np.array([MASK_BOUNDS in row for row in rows], bool)


def _corners(boxes: np.ndarray) -> np.ndarray:
    corners = boxes.copy()
    with np.errstate(invalid="ignore", over="ignore"):  # infinity minus infinity; a fault of its own
        corners[:, 2:] += corners[:, :2]
    return corners


def _areas(rows: list[Row], boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[B] float64, and [B] bool: which of the areas stated are nonsense. Without one, or null, the box's is taken."""
    values: list[Any] = [row.get("area") for row in rows]
    if set(map(type, values)) <= {int, float}:
        try:
            areas = np.array(values, np.float64)
        except OverflowError:
            areas = _numbers(values)
    else:
        areas = _numbers(values)
    unusable = ~(np.isfinite(areas) & (areas >= 0))
    absent = np.array([value is None for value in values], bool) if unusable.any() else np.zeros(len(rows), bool)
    with np.errstate(invalid="ignore", over="ignore"):
        own = np.abs(boxes[:, 2] * boxes[:, 3])
    return np.where(unusable, own, areas), unusable & ~absent


def _numbers(values: list[Any]) -> np.ndarray:
    return np.array([value if is_number(value) else math.nan for value in values], np.float64)


def _crowds(rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Twice [B] bool: the crowd regions, and where `iscrowd` is neither 0 nor 1. Without it, or null, it is 0."""
    values: list[Any] = [row.get("iscrowd") for row in rows]
    if set(map(type, values)) <= {int, bool, type(None)} and set(values) <= {0, 1, None}:
        return np.array(values, bool), np.zeros(len(values), bool)
    good = [value is None or (isinstance(value, int | float) and value in (0, 1)) for value in values]
    crowds = [is_good and bool(value) for is_good, value in zip(good, values, strict=True)]
    return np.array(crowds, bool), ~np.array(good, bool)


def _ignore_marks(rows: list[Row]) -> np.ndarray:
    """[B] bool: the annotation is marked `ignore`, in whatever way."""
    return np.array([row.get("ignore") not in (None, 0, "0", "") for row in rows], bool)
