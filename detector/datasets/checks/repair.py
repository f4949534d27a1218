"""Repairs that guess nothing: what they leave is as it was annotated, and what needs a decision is left to the user."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from detector.datasets import fault_kinds as kinds
from detector.datasets.columns import Columns, ordered
from detector.datasets.faults import Fault
from detector.datasets.formats.coco import MASK_BOUNDS, without_bounds
from detector.datasets.formats.contents import Contents, Row
from detector.errors import shown

_LEFT_OUT_BY_READING = (kinds.UNREADABLE_FILE, kinds.UNREADABLE_OBJECT)
_UNUSABLE_ANNOTATION = (
    kinds.UNKNOWN_IMAGE,
    kinds.MALFORMED_BOX,
    kinds.NON_FINITE_BOX,
    kinds.ZERO_SIZE_BOX,
    kinds.BOX_OUTSIDE,
    kinds.REPEATED_BOX,
)
_UNUSABLE_PICTURE = (kinds.MISSING_PICTURE, kinds.BROKEN_PICTURE)


def repair(
    contents: Contents, columns: Columns, faults: Sequence[Fault], picture_sizes: np.ndarray | None
) -> tuple[dict[str, Any], list[Fault], list[Fault]]:
    """Fix what can be fixed without a guess.

    Args:
        contents: what was checked; its entries are changed in place.
        columns: the columns parsed from `contents`.
        faults: those to fix.
        picture_sizes: [N, 2] (height, width) of the pictures, 0 where one could not be decoded; None: not opened.

    Returns:
        The contents of the fixed COCO file; the faults that were fixed, each with how in its detail; and the others.
    """
    work = _Repair(contents, columns, faults, picture_sizes)
    outcomes = [(fault, work.fix(fault)) for fault in faults]
    fixed = [
        replace(fault, detail=f"{fault.detail} → {how}" if fault.detail else how)
        for fault, how in outcomes
        if how is not None
    ]
    return work.content(), fixed, [fault for fault, how in outcomes if how is None]


class _Repair:
    """The entries while they are fixed, and which of them will be removed."""

    def __init__(
        self, contents: Contents, columns: Columns, faults: Sequence[Fault], picture_sizes: np.ndarray | None
    ) -> None:
        self.contents = contents
        self.columns = columns
        self.doomed: dict[str, set[int]] = {"images": set(), "annotations": set(), "categories": set()}
        self.ambiguous = {fault.image_id for fault in faults if fault.kind is kinds.DUPLICATE_IMAGE}
        self.sizes: dict[int, list[int]] = {}
        if picture_sizes is not None:
            self.sizes = dict(zip(columns.image_places, picture_sizes.tolist(), strict=True))
        ids = columns.annotation_ids
        self.next_id = 1 if ids is None else int(ids.max(initial=0)) + 1

    def fix(self, fault: Fault) -> str | None:
        """Fix one fault. Returns what was done, or None where nothing can be done without a guess."""
        kind, place = fault.kind, fault.place
        if kind in _LEFT_OUT_BY_READING:
            return kind.fix
        if place is None:
            return None
        if kind in _UNUSABLE_ANNOTATION:
            return self._remove("annotations", place, kind.fix)
        if kind in _UNUSABLE_PICTURE and fault.image_id not in self.ambiguous:
            return self._remove("images", place, kind.fix)
        if kind is kinds.DUPLICATE_IMAGE and _is_copy(self.contents.images, place):
            return self._remove("images", place, "the copy is removed")
        if kind is kinds.DUPLICATE_CATEGORY and _is_copy(self.contents.categories, place):
            return self._remove("categories", place, "the copy is removed")
        if kind is kinds.DUPLICATE_ANNOTATION:
            self.contents.annotations[place]["id"] = self.next_id
            self.next_id += 1
            return f"now annotation {self.next_id - 1}"
        if kind is kinds.BAD_SIZE:
            return _fix_size(self.contents.images[place], self.sizes.get(place, [0, 0]))
        if kind is kinds.BAD_AREA:
            del self.contents.annotations[place]["area"]
            return kind.fix
        if kind is kinds.BAD_CROWD:
            return _fix_crowd(self.contents.annotations[place])
        if kind is kinds.BACKSLASHES:
            image = self.contents.images[place]
            image["file_name"] = image["file_name"].replace("\\", "/")
            return f"file_name {shown(image['file_name'])}"
        if kind is kinds.PLACEHOLDER_CATEGORY:
            return self._remove("categories", place, kind.fix)
        if kind is kinds.BOX_FROM_MASK:
            self.contents.annotations[place]["bbox"] = self.contents.annotations[place][MASK_BOUNDS]
            return kind.fix
        if kind is kinds.SWAPPED_CORNERS:
            return _set_box(self.contents.annotations[place], *_corners(self.contents.annotations[place]))
        if kind is kinds.BOX_PARTLY_OUTSIDE:
            low, high = _corners(self.contents.annotations[place])
            limits = self.columns.sizes[self.columns.owners[place], ::-1]
            high = np.minimum(high, np.where(limits > 0, limits, np.inf))
            return _set_box(self.contents.annotations[place], np.maximum(low, 0), high)
        return None

    def content(self) -> dict[str, Any]:
        """The file's contents without what is to go. Annotations go with their image."""
        gone = [
            index
            for index, place in enumerate(self.columns.image_places)
            if place in self.doomed["images"] and int(self.columns.image_ids[index]) not in self.ambiguous
        ]
        self.doomed["annotations"].update(np.flatnonzero(np.isin(self.columns.owners, gone)).tolist())
        kept = {
            table: [row for place, row in enumerate(self.contents.content[table]) if place not in places]
            for table, places in self.doomed.items()
        }
        return without_bounds(self.contents.content | kept)

    def _remove(self, table: str, place: int, how: str | None) -> str | None:
        self.doomed[table].add(place)
        return how


def _box(row: Row) -> list[float]:
    return row.get("bbox") or row[MASK_BOUNDS]


def _corners(row: Row) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corner, [2] each, in order."""
    box = np.array(_box(row), np.float64)
    return ordered(box[:2], box[:2] + box[2:])


def _fix_crowd(row: Row) -> str | None:
    """Text that can mean only one of the two numbers becomes that number."""
    meant = {"0": 0, "1": 1, "false": 0, "true": 1}.get(str(row["iscrowd"]).strip().lower())
    if not isinstance(row["iscrowd"], str) or meant is None:
        return None
    row["iscrowd"] = meant
    return f"iscrowd {meant}"


def _set_box(row: Row, low: np.ndarray, high: np.ndarray) -> str:
    """Give an annotation a box by its corners; its area follows if it was the box's and not a mask's."""
    _, _, width, height = _box(row)
    new = [*low.tolist(), *(high - low).tolist()]
    if row.get("area") is not None and abs(row["area"]) == abs(width * height):
        row["area"] = new[2] * new[3]
    row["bbox"] = new
    return f"bbox [{', '.join(f'{value:.10g}' for value in new)}]"


def _fix_size(row: Row, size: list[int]) -> str:
    """Replace a nonsensical size by the picture's (height, width), or by none where the picture is not known."""
    for key in ("height", "width"):
        row.pop(key, None)
    if size[0] == 0:
        return "the size is removed"
    row["height"], row["width"] = size
    return f"height {size[0]}, width {size[1]}, of the upright picture"


def _is_copy(rows: list[Row], place: int) -> bool:
    """Whether the entry says the same as the first with its id."""
    return next(row for row in rows if row.get("id") == rows[place]["id"]) == rows[place]
