"""The contents of a COCO file as columns, in passes over whole tables: each list of values is judged at once, and only
where something is wrong entry by entry."""

import math
from itertools import chain
from typing import Any

import numpy as np

from detector.datasets.checks import faults as kinds
from detector.datasets.checks.columns import Columns
from detector.datasets.checks.contents import Contents, Row
from detector.datasets.checks.faults import Fault
from detector.errors import shown


def parse(contents: Contents) -> tuple[Columns, list[Fault]]:
    """Columns, and the faults of entries, values and references that could not be read."""
    found: list[Fault] = list(contents.faults)
    image_ids, image_places, file_names = _images(contents.images, found)
    sizes = _sizes([contents.images[place] for place in image_places])
    categories, category_places = _categories(contents.categories, found)
    rows = contents.annotations
    boxes, readable = _boxes(rows)
    annotation_ids, has_id = whole_numbers([row.get("id") for row in rows])
    columns = Columns(
        source=contents.source,
        image_ids=image_ids,
        file_names=file_names,
        sizes=np.maximum(sizes, 0),
        image_places=image_places,
        category_places=category_places,
        annotation_names=_annotation_names(contents),
        annotation_ids=annotation_ids if has_id.all() else None,
        owners=_positions(rows, "image_id", image_ids),
        classes=_positions(rows, "category_id", np.array([number for number, _ in categories], np.int64)),
        boxes=boxes,
        readable=readable,
        iscrowd=np.array([bool(row.get("iscrowd")) for row in rows], bool),
        categories=categories,
    )
    for image in np.flatnonzero((sizes < 0).any(axis=1)).tolist():
        row = contents.images[image_places[image]]
        size = f"height {shown(row.get('height'))}, width {shown(row.get('width'))}"
        found.append(columns.image_fault(kinds.BAD_SIZE, image, size))
    found += _box_faults(rows, columns)
    return columns, found


def whole_numbers(values: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """[N] int64 and [N] bool: which of the values are whole numbers that fit. 12.0 is one; true, "12" and None are not.

    What is none has the value 0.
    """
    if set(map(type, values)) <= {int}:
        try:
            return np.array(values, np.int64), np.ones(len(values), bool)
        except OverflowError:  # one by one, then
            pass
    numbers = np.array([int(value) if _is_whole(value) else 0 for value in values], np.int64)
    return numbers, np.array([_is_whole(value) for value in values], bool)


def _is_whole(value: Any) -> bool:
    return (type(value) is int or (type(value) is float and value.is_integer())) and abs(value) < 2**63


def _images(rows: list[Row], found: list[Fault]) -> tuple[np.ndarray, list[int], list[str]]:
    """Ids, places and file names of the images that have an id."""
    ids, good = whole_numbers([row.get("id") for row in rows])
    names = [row.get("file_name") for row in rows]
    usable = [isinstance(name, str) and name != "" for name in names]
    for place in np.flatnonzero(~(good & np.array(usable, bool))).tolist():
        entry = f"images[{place}] has id {shown(rows[place].get('id'))} and file_name {shown(names[place])}"
        found.append(Fault(kinds.BAD_IMAGE, detail=entry))
    places = np.flatnonzero(good).tolist()
    return ids[good], places, [str(names[place]) if usable[place] else "" for place in places]


def _sizes(rows: list[Row]) -> np.ndarray:
    """[N, 2] int64 (height, width); 0 where they are not stated, −1 where they are nonsense."""
    columns = []
    for key in ("height", "width"):
        values = [row.get(key) for row in rows]
        numbers, good = whole_numbers(values)
        good &= (numbers > 0) & (numbers < 2**31)
        absent = np.array([value is None for value in values], bool)
        columns.append(np.where(absent, 0, np.where(good, numbers, -1)))
    sizes = np.stack(columns, axis=1)
    nonsense, unknown = (sizes < 0).any(axis=1, keepdims=True), (sizes == 0).any(axis=1, keepdims=True)
    return np.where(nonsense, -1, np.where(unknown, 0, sizes))


def _categories(rows: list[Row], found: list[Fault]) -> tuple[list[tuple[int, str]], list[int]]:
    ids, good = whole_numbers([row.get("id") for row in rows])
    categories, places = [], []
    for place, row in enumerate(rows):
        name = row.get("name")
        if not good[place] or not isinstance(name, str) or not name:
            entry = f"categories[{place}] has id {shown(row.get('id'))} and name {shown(name)}"
            found.append(Fault(kinds.BAD_CATEGORY, detail=entry))
        if good[place]:
            categories.append((int(ids[place]), name if isinstance(name, str) else ""))
            places.append(place)
    return categories, places


def _annotation_names(contents: Contents) -> list[Any]:
    if contents.annotation_names is not None:
        return contents.annotation_names
    ids = [row.get("id") for row in contents.annotations]
    if set(map(type, ids)) <= {int}:
        return ids
    return [f"number {n}" if value is None else shown(value) for n, value in enumerate(ids, start=1)]


def _positions(rows: list[Row], key: str, known: np.ndarray) -> np.ndarray:
    """[B] int64: where the id that each annotation names stands among the known ones (first), or −1."""
    wanted, good = whole_numbers([row.get(key) for row in rows])
    if len(known) == 0 or len(wanted) == 0:
        return np.full(len(wanted), -1, np.int64)
    order = np.argsort(known, kind="stable")
    places = order[np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)]
    return np.where(good & (known[places] == wanted), places, -1)


def _boxes(rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    """[B, 4] float64 and [B] bool: which could be read."""
    values: list[Any] = [row.get("bbox") for row in rows]
    if set(map(type, values)) <= {list} and set(map(len, values)) <= {4}:
        numbers = list(chain.from_iterable(values))
        if set(map(type, numbers)) <= {int, float}:
            try:
                return np.array(numbers, np.float64).reshape(-1, 4), np.ones(len(rows), bool)
            except OverflowError:  # one by one, then
                pass
    readable = [isinstance(v, list) and len(v) == 4 and all(map(_is_number, v)) for v in values]
    boxes = [v if good else [math.nan] * 4 for v, good in zip(values, readable, strict=True)]
    return np.array(boxes, np.float64).reshape(-1, 4), np.array(readable, bool)


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


def _box_faults(rows: list[Row], columns: Columns) -> list[Fault]:
    found = []
    for kind, key, bad in (
        (kinds.UNKNOWN_IMAGE, "image_id", columns.owners < 0),
        (kinds.UNKNOWN_CATEGORY, "category_id", columns.classes < 0),
        (kinds.MALFORMED_BOX, "bbox", ~columns.readable),
        (kinds.BAD_AREA, "area", _bad_areas(rows)),
    ):
        found += [
            columns.box_fault(kind, box, f"{key} {shown(rows[box].get(key))}") for box in np.flatnonzero(bad).tolist()
        ]
    return found


def _bad_areas(rows: list[Row]) -> np.ndarray:
    """[B] bool. No area, or null, is good: the box's is taken."""
    values = [row.get("area") for row in rows]
    if set(map(type, values)) <= {int, float}:
        try:
            areas = np.array(values, np.float64)
            return ~np.isfinite(areas) | (areas < 0)
        except OverflowError:  # one by one, then
            pass
    return np.array([v is not None and not (_is_number(v) and 0 <= v < math.inf) for v in values], bool)
