"""Whether two splits fit together: the same categories, and no picture in both."""

import os
from pathlib import Path

from detector.datasets import fault_kinds as kinds
from detector.datasets.checks.pictures import Picture
from detector.datasets.columns import Columns
from detector.datasets.faults import Fault
from detector.datasets.formats.contents import Format


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
    """Pictures that both splits have: the same file, or (where the pictures were opened) the same pixels."""
    paths = {_path(other_images, name): index for index, name in enumerate(other.file_names) if name}
    digests = {p.digest: index for index, p in enumerate(other_pictures or []) if p.digest is not None}
    faults = []
    for image, name in enumerate(columns.file_names):
        shared = paths.get(_path(images, name)) if name else None
        digest = None if pictures is None else pictures[image].digest
        if shared is None and digest is not None:
            shared = digests.get(digest)
        if shared is not None:
            detail = f"also image {other.image_ids[shared]} ({other.file_names[shared]}) of {other.source}"
            faults.append(columns.image_fault(kinds.IN_BOTH_SPLITS, image, detail))
    return faults


def _path(images: Path, name: str) -> str:
    return os.path.normpath(os.path.join(os.path.abspath(images), name))
