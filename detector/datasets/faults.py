"""Faults of annotations and pictures: one fault, and a list of them refused or summed up."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from detector.datasets.fault_kinds import (
    BROKEN_PICTURE,
    KINDS,
    MISSING_PICTURE,
    MISSING_SPLIT,
    UNREADABLE_FILE,
    UNREADABLE_OBJECT,
    Kind,
)
from detector.errors import UserError, one_line

# Their details are whole sentences, which name the file and the remedy.
_SPEAK_FOR_THEMSELVES = (UNREADABLE_FILE, UNREADABLE_OBJECT, MISSING_PICTURE, BROKEN_PICTURE, MISSING_SPLIT)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of an annotated set of pictures.

    image_id, image: the picture's id and file name, where there is one. annotation: its id, or where it stands in its
    file. detail: the values that are wrong. place: position among the file's images (faults of pictures), annotations
    or categories, for the repair; None where there is nothing that a repair could touch.
    """

    kind: Kind
    image_id: int | None = None
    image: str = ""
    annotation: Any = None
    detail: str = ""
    place: int | None = None

    def where(self) -> str:
        """Where the fault is, as far as it is known: `annotation 17 of image 5 (a.jpg)`."""
        image = "" if self.image_id is None else f"image {self.image_id}"
        if self.image:
            image = f"{image} ({self.image})" if image else self.image
        if self.annotation is None:
            return image
        return f"annotation {self.annotation}" + (f" of {image}" if image else "")

    def __str__(self) -> str:
        return one_line(": ".join(part for part in (self.where(), self.detail) if part), limit=400)


def refuse(faults: Sequence[Fault], kinds: Collection[Kind], source: str) -> None:
    """Refuse annotations that have a fault of one of these kinds.

    Raises:
        UserError: one sentence on the first such fault: the file, the entry, how many like it, and the remedy.
    """
    stopping = [fault for fault in faults if fault.kind in kinds]
    if not stopping:
        return
    first = stopping[0]
    if first.kind in _SPEAK_FOR_THEMSELVES:
        raise UserError(first.detail)
    alike = sum(fault.kind is first.kind for fault in stopping)
    count = f", the first of {alike}" if alike > 1 else ""
    raise UserError(f"{source}: {first.kind.meaning} ({first}{count}); {first.kind.remedy}.")


def by_kind(faults: Sequence[Fault]) -> dict[Kind, list[Fault]]:
    """Group the faults by kind, in the order of `KINDS`; kinds without faults are left out."""
    table: dict[Kind, list[Fault]] = {kind: [] for kind in KINDS}
    for fault in faults:
        table[fault.kind].append(fault)
    return {kind: alike for kind, alike in table.items() if alike}


def summarise(faults: Sequence[Fault]) -> list[str]:
    """One line for each kind of fault among them: how many, the first one, and what to do."""
    return [
        f"{len(alike)} × {kind.name}: {kind.meaning} (first: {alike[0]}); {kind.remedy}."
        for kind, alike in by_kind(faults).items()
    ]
