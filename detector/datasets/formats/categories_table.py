"""The categories of a COCO file, without those that only stand for the dataset."""

import unicodedata
from typing import Any

import numpy as np

from detector.datasets import fault_kinds as kinds
from detector.datasets.faults import Fault
from detector.datasets.formats.contents import Row
from detector.datasets.formats.numbers import whole_numbers
from detector.errors import shown


def parse_categories(rows: list[Row], used: np.ndarray, faults: list[Fault]) -> tuple[list[tuple[int, str]], list[int]]:
    """(id, name) of the categories that take part, and their places in the file's list.

    Args:
        rows: the file's entries.
        used: [U] int64, the ids that annotations name.
        faults: what is wrong with the categories is added to these.
    """
    ids, good = whole_numbers([row.get("id") for row in rows])
    categories: list[tuple[int, str]] = []
    places: list[int] = []
    for place, row in enumerate(rows):
        name = row.get("name")
        is_sound = bool(good[place]) and isinstance(name, str) and name.strip() != ""
        if not is_sound:
            entry = f"categories[{place}] has id {shown(row.get('id'))} and name {shown(name)}"
            faults.append(Fault(kinds.BAD_CATEGORY, detail=entry))
        if good[place]:
            categories.append((int(ids[place]), name if isinstance(name, str) else ""))
            places.append(place)
    taken = set(used.tolist())
    kept = [index for index in range(len(places)) if not _is_placeholder(index, places, categories, rows, taken)]
    for index in sorted(set(range(len(places))) - set(kept)):
        number, name = categories[index]
        detail = f"category {number} ({name})"
        faults.append(Fault(kinds.PLACEHOLDER_CATEGORY, detail=detail, place=places[index]))
    categories, places = [categories[index] for index in kept], [places[index] for index in kept]
    _find_repetitions(categories, places, faults)
    return categories, places


def _is_placeholder(
    index: int, places: list[int], categories: list[tuple[int, str]], rows: list[Row], used: set[int]
) -> bool:
    """Whether nothing is annotated as this category, and it stands for all others or repeats another one's name.

    Roboflow's exports begin with category 0 of the supercategory "none", which has the dataset's name and is the
    supercategory of all others; where there is one class of that name, two categories have it.
    """
    number, name = categories[index]
    if number in used or not name:
        return False
    others = [other for other in range(len(places)) if other != index and categories[other][0] != number]
    heads_others = _supercategory(rows[places[index]]) == "none" and any(
        _supercategory(rows[places[other]]) == name for other in others
    )
    repeats_one = any(categories[other][1] == name and categories[other][0] in used for other in others)
    return heads_others or repeats_one


def _supercategory(row: Row) -> Any:
    return row.get("supercategory")


def _find_repetitions(categories: list[tuple[int, str]], places: list[int], faults: list[Fault]) -> None:
    ids: dict[int, str] = {}
    for (number, name), place in zip(categories, places, strict=True):
        if number in ids:
            detail = f"category {number} ({name}) is {ids[number]} before"
            faults.append(Fault(kinds.DUPLICATE_CATEGORY, detail=detail, place=place))
        ids.setdefault(number, name)


def check_names(categories: list[tuple[int, str]]) -> list[Fault]:
    """Names that two categories have, to the letter or nearly so."""
    faults = []
    names: dict[str, int] = {}
    similar: dict[str, tuple[int, str]] = {}
    ids: set[int] = set()
    for number, name in categories:
        if number in ids:
            continue
        ids.add(number)
        if name in names:
            faults.append(Fault(kinds.REPEATED_NAME, detail=f"{name} is category {names[name]} and {number}"))
            continue
        names[name] = number
        first_number, first = similar.setdefault(_plain(name), (number, name))
        if first != name:
            detail = f"{shown(first)} is category {first_number} and {shown(name)} is category {number}"
            faults.append(Fault(kinds.SIMILAR_NAME, detail=detail))
    return faults


def _plain(name: str) -> str:
    """A name without what people write inconsistently: case, spaces, hyphens and underscores."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    words = folded.replace("_", " ").replace("-", " ").split()
    # "stopsign" is "stop sign", but 12 is not 1-2.
    return ("".join(words) if not any(map(str.isdigit, folded)) else " ".join(words)) or name
