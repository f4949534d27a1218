"""The images of a COCO file: ids, sizes, and file names that stay inside their folder."""

import posixpath
import re
from typing import Any, NamedTuple

import numpy as np

from detector.datasets import fault_kinds as kinds
from detector.datasets.faults import Fault
from detector.datasets.formats.contents import Row
from detector.datasets.formats.numbers import whole_numbers
from detector.errors import shown

_DRIVE = re.compile(r"[A-Za-z]:/")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./ -]*")


class ImageColumns(NamedTuple):
    """The N images that have an id.

    ids: [N] int64. places: where each stands in the file's list. file_names: N, empty where unusable. sizes: [N, 2]
    int64 (height, width), 0 where unknown.
    """

    ids: np.ndarray
    places: list[int]
    file_names: list[str]
    sizes: np.ndarray


def parse_images(rows: list[Row], faults: list[Fault]) -> ImageColumns:
    """Read the images into columns; what is wrong with them is added to `faults`."""
    ids, good = whole_numbers([row.get("id") for row in rows])
    for place in np.flatnonzero(~good).tolist():
        entry = f"images[{place}] has id {shown(rows[place].get('id'))}"
        faults.append(Fault(kinds.BAD_IMAGE, detail=f"{entry} and file_name {shown(rows[place].get('file_name'))}"))
    places = np.flatnonzero(good).tolist()
    ids = ids[good]
    file_names = [_file_name(rows[place], int(ids[n]), place, faults) for n, place in enumerate(places)]
    sizes = _sizes([rows[place] for place in places])
    for image in np.flatnonzero((sizes < 0).any(axis=1)).tolist():
        row = rows[places[image]]
        detail = f"height {shown(row.get('height'))}, width {shown(row.get('width'))}"
        faults.append(Fault(kinds.BAD_SIZE, int(ids[image]), file_names[image], None, detail, places[image]))
    for image, first in repetitions(ids):
        detail = f"it is {file_names[first]} before"
        faults.append(Fault(kinds.DUPLICATE_IMAGE, int(ids[image]), file_names[image], None, detail, places[image]))
    return ImageColumns(ids, places, file_names, np.maximum(sizes, 0))


def repetitions(ids: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (index, index of the first with the same id) for all of `ids`, [N] int64, but those first ones."""
    if len(np.unique(ids)) == len(ids):
        return []
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[inverse] != np.arange(len(ids)))
    return list(zip(again.tolist(), first[inverse[again]].tolist(), strict=True))


def _file_name(row: Row, image_id: int, place: int, faults: list[Fault]) -> str:
    name = row.get("file_name")
    if isinstance(name, str) and _PLAIN_NAME.fullmatch(name) and ".." not in name:
        return name  # nearly all of them
    problem = _problem(name)
    if problem is not None:
        faults.append(Fault(kinds.BAD_FILE_NAME, image_id, "", None, f"file_name {shown(name)} {problem}", place))
        return ""
    assert isinstance(name, str)
    if "\\" in name:
        mapped = name.replace("\\", "/")
        faults.append(Fault(kinds.BACKSLASHES, image_id, mapped, None, f"file_name {shown(name)}", place))
        return mapped
    return name


def _problem(name: Any) -> str | None:
    """What is wrong with a file name, or None. Which one of two computers wrote it does not matter."""
    if not isinstance(name, str):
        return "is not text"
    if not name.strip() or "\0" in name or _has_half_characters(name):
        return "names no file"
    if "://" in name:
        return "is an address: fetch the picture and name its file"
    path = name.replace("\\", "/")
    if path.startswith("/") or _DRIVE.match(path):
        return "is absolute"
    if path.startswith("~/"):
        return "starts at a home folder"
    normal = posixpath.normpath(path)
    return "leads out of its folder" if normal == ".." or normal.startswith("../") else None


def _has_half_characters(name: str) -> bool:
    r"""JSON can write the halves of a character alone (\ud800), which no file name has."""
    return any("\ud800" <= character <= "\udfff" for character in name)


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
