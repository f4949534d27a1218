"""Whether two splits fit together: the same categories, and no picture in both."""

import hashlib
import os
from pathlib import Path

from detector.datasets import fault_kinds as kinds
from detector.datasets.checks.pictures import Picture
from detector.datasets.columns import Columns
from detector.datasets.faults import Fault
from detector.datasets.formats.contents import Format

MOST_COMPARED = 20_000  # pictures of two splits together
_READ = 2**16  # bytes of a picture


def check_categories(columns: Columns, other: Columns) -> list[Fault]:
    """Categories that only one of two splits has."""
    faults = []
    for own, others, source in ((columns, other, other.source), (other, columns, columns.source)):
        missing = sorted(set(own.categories) - set(others.categories))
        faults += [
            Fault(kinds.CATEGORIES_DIFFER, detail=f"category {number} ({name}) is not in {source}")
            for number, name in missing
        ]
    return faults


def check_classes(data_format: Format, columns: Columns, other: Columns, is_training: bool = False) -> list[Fault]:
    """Whether two splits have the same classes.

    A VOC tree has no list of its classes, so a rare one may be absent from a split. But one that the training split
    lacks nothing learns.

    Args:
        data_format: of both.
        columns, other: of two splits.
        is_training: the first is the training split.
    """
    if data_format != "voc":
        return check_categories(columns, other)
    known = {name for _, name in columns.categories}
    missing = sorted({name for _, name in other.categories} - known) if is_training else []
    return [Fault(kinds.CATEGORIES_DIFFER, detail=f"class {name} is not in {columns.source}") for name in missing]


def check_leaks(
    columns: Columns,
    images: Path,
    other: Columns,
    other_images: Path,
    pictures: list[Picture] | None = None,
    other_pictures: list[Picture] | None = None,
) -> list[Fault]:
    """Pictures that both splits have: the same file, or the same pixels.

    Where the pictures were not opened it is the same bytes, as far as `_copies` looks for them.
    """
    paths = {_path(other_images, name): index for index, name in enumerate(other.file_names) if name}
    digests = {p.digest: index for index, p in enumerate(other_pictures or []) if p.digest is not None}
    copies = {} if pictures is not None else _copies(_all_paths(columns, images), _all_paths(other, other_images))
    faults = []
    for image, name in enumerate(columns.file_names):
        shared = paths.get(_path(images, name)) if name else None
        digest = None if pictures is None else pictures[image].digest
        if shared is None and digest is not None:
            shared = digests.get(digest)
        if shared is None:
            shared = copies.get(image)
        if shared is not None:
            detail = f"also image {other.image_ids[shared]} ({other.file_names[shared]}) of {other.source}"
            faults.append(columns.image_fault(kinds.IN_BOTH_SPLITS, image, detail))
    return faults


def _all_paths(columns: Columns, images: Path) -> list[str]:
    return [_path(images, name) if name else "" for name in columns.file_names]


def _copies(paths: list[str], others: list[str]) -> dict[int, int]:
    """The files of the first list that have the size and the first bytes of one of the second, by their places.

    Of more than `MOST_COMPARED` files none are looked at: training begins with this.
    """
    if len(paths) + len(others) > MOST_COMPARED:
        return {}
    by_size: dict[int, list[int]] = {}
    for place, path in enumerate(others):
        by_size.setdefault(_size(path), []).append(place)
    starts: dict[str, bytes] = {}
    copies: dict[int, int] = {}
    for place, path in enumerate(paths):
        size = _size(path)
        for other in by_size.get(size, ()) if size > 0 else ():
            if _start(path, starts) == _start(others[other], starts):
                copies[place] = other
                break
    return copies


def _size(path: str) -> int:
    """A file's size in bytes, 0 where there is none."""
    try:
        return os.stat(path).st_size if path else 0
    except (OSError, ValueError):
        return 0


def _start(path: str, starts: dict[str, bytes]) -> bytes:
    """A digest of a file's first bytes, read once; of its name where it cannot be read."""
    if path not in starts:
        try:
            with open(path, "rb") as stream:
                content = stream.read(_READ)
        except OSError:
            content = os.fsencode(path)
        starts[path] = hashlib.blake2b(content, digest_size=16).digest()
    return starts[path]


def _path(images: Path, name: str) -> str:
    return os.path.normpath(os.path.join(os.path.abspath(images), name))
