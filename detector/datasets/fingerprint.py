"""A fingerprint of a dataset's annotations, by which a resumed run can tell whether they have changed."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from detector.datasets.dataset import DetectionDataset


@dataclass(frozen=True)
class Fingerprint:
    """Counts for people, and a digest that changes with any change of the annotations.

    pictures, boxes: how many the dataset has; crowd regions count, boxes that reading left out do not. digest:
    hexadecimal, the same on every machine.
    """

    pictures: int
    boxes: int
    digest: str

    def __str__(self) -> str:
        return f"{self.pictures} pictures with {self.boxes} boxes"

    def to_dict(self) -> dict[str, Any]:
        """The fingerprint as plain values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Fingerprint":
        """Read what `to_dict` returned. Raises KeyError where an entry is missing."""
        return cls(int(values["pictures"]), int(values["boxes"]), str(values["digest"]))


def fingerprint(dataset: DetectionDataset) -> Fingerprint:
    """The fingerprint of a dataset's annotations; no file is opened.

    Everything that training and scoring take from annotations counts, with the order of pictures and boxes: ids, file
    names, sizes, categories, boxes, labels, crowd marks and areas. Where the files lie does not, so a dataset that
    moved to another folder keeps its fingerprint.
    """
    digest = hashlib.blake2b(digest_size=16)
    categories = [(category.id, category.name) for category in dataset.categories.categories]
    _add(digest, json.dumps(categories).encode())
    for name in ("image_ids", "sizes", "names", "name_ends", "box_ends", "boxes", "labels", "iscrowd", "areas"):
        column: np.ndarray = getattr(dataset, name)
        _add(digest, np.ascontiguousarray(column.astype(column.dtype.newbyteorder("<"))).tobytes())
    return Fingerprint(len(dataset), len(dataset.boxes), digest.hexdigest())


def _add(digest: "hashlib.blake2b", content: bytes) -> None:
    """Add a part with its length, so that no two lists of parts look the same."""
    digest.update(len(content).to_bytes(8, "little"))
    digest.update(content)


def describe_change(before: Fingerprint, now: Fingerprint) -> str | None:
    """How the annotations changed, as the end of a sentence; None where they did not."""
    if before.digest == now.digest:
        return None
    if (before.pictures, before.boxes) == (now.pictures, now.boxes):
        return f"there are still {now}, but not the same ones"
    return f"there were {before}, and now there are {now}"
