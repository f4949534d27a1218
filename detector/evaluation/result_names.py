"""Which images and categories the detections of a results file belong to, by the file and class names in it."""

import posixpath
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detector.errors import UserError, shown
from detector.evaluation.ground_truth import GroundTruth

Entries = Sequence[Mapping[str, Any]]


def image_ids_by_name(detections: Entries, image_of: np.ndarray, truth: GroundTruth, source: str) -> np.ndarray:
    """[D] int64: the ids that the ground truth gives to the pictures that the entries name.

    A name matches the whole of a picture's path in the annotations, or its end where only one picture ends so.

    Args:
        detections: entries with `file_name`.
        image_of: [D] int64, the ids that they state. These may be the program's own, but one id is one picture.

    Raises:
        UserError: an entry has no file name, names a picture that the annotations lack, or has the id of another one.
    """
    names = [_name(entry, position, source) for position, entry in enumerate(detections)]
    ids_of = _match(names, truth, source)
    by_id: dict[int, str] = {}
    by_name: dict[str, int] = {}
    for position, (name, number) in enumerate(zip(names, image_of.tolist(), strict=True)):
        other = by_id.setdefault(number, name)
        if other != name:
            raise UserError(
                f"{source}: entry {position} has image_id {number} and file_name {shown(name)}, but an entry before it "
                f"has that id and {shown(other)}; an id belongs to one picture. Which of them is right?"
            )
        other_id = by_name.setdefault(name, number)
        if other_id != number:
            raise UserError(
                f"{source}: entry {position} has file_name {shown(name)} and image_id {number}, but an entry before it "
                f"has that name and id {other_id}; a picture has one id. Which of them is right?"
            )
    return np.array([ids_of[name] for name in names], np.int64)


def check_category_names(detections: Entries, category_of: np.ndarray, truth: GroundTruth, source: str) -> None:
    """Refuse entries whose `category_name` is not the one that the annotations give to their `category_id`.

    Args:
        detections: entries of a COCO results file, D of them.
        category_of: [D] int64, their `category_id`s.
        truth: the annotations.
        source: what to call the detections in messages.

    Raises:
        UserError: naming the first such entry.
    """
    names = {category.id: category.name for category in truth.categories.categories}
    for position, (entry, number) in enumerate(zip(detections, category_of.tolist(), strict=True)):
        name = entry.get("category_name")
        if name is not None and name != names[number]:
            ids = [category.id for category in truth.categories.categories if category.name == name]
            hint = f", and {shown(name)} is {ids[0]}" if ids else ""
            raise UserError(
                f"{source}: entry {position} has category_id {number} and category_name {shown(name)}, but in "
                f"{truth.source} category {number} is {shown(names[number])}{hint}. Are they meant for others?"
            )


def _name(entry: Mapping[str, Any], position: int, source: str) -> str:
    name = entry.get("file_name")
    if not isinstance(name, str) or not name:
        stated = f"file_name {shown(name)}" if "file_name" in entry else "no file_name"
        raise UserError(
            f"{source}: entry {position} has {stated}, while others name their picture; give all of them one."
        )
    return posixpath.normpath(name.replace("\\", "/"))


def _match(names: Sequence[str], truth: GroundTruth, source: str) -> dict[str, int]:
    """The ground truth's image id of each name."""
    exact = {posixpath.normpath(name): number for name, number in truth.file_names.items() if name}
    by_last: dict[str, list[str]] = defaultdict(list)
    for name in exact:
        by_last[posixpath.basename(name)].append(name)
    ids: dict[str, int] = {}
    taken: dict[int, str] = {}
    for position, name in enumerate(names):
        if name in ids:
            continue
        candidates = [name] if name in exact else [n for n in by_last[posixpath.basename(name)] if _is_end(n, name)]
        if len(candidates) != 1:
            reason = "is not among its pictures" if not candidates else f"may be {candidates[0]} or {candidates[1]}"
            raise UserError(
                f"{source}: entry {position} has file_name {shown(name)}, which {reason} in {truth.source}. Is it "
                "meant for these annotations?"
            )
        ids[name] = exact[candidates[0]]
        other = taken.setdefault(ids[name], name)
        if other != name:
            raise UserError(
                f"{source}: entry {position} has file_name {shown(name)}, and an entry before it {shown(other)}; both "
                f"would be {candidates[0]} of {truth.source}. Give the paths as the annotations have them."
            )
    return ids


def _is_end(first: str, second: str) -> bool:
    """Whether one path is the end of the other, in whole parts."""
    return first.endswith("/" + second) or second.endswith("/" + first)
