"""Annotations of any format in the form of a COCO file's contents, unchecked: where reading, checking, scoring and
converting start."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from detector.datasets.faults import Fault
from detector.errors import UserError

Row = dict[str, Any]
Format = Literal["coco", "voc", "yolo"]


@dataclass(frozen=True)
class Contents:
    """The contents of a COCO file, as they stand.

    source: for messages. content: the whole file; its images, annotations and categories are lists of objects. faults:
    what could not be brought into this form. annotation_names: words for each annotation in messages where the format
    has no ids, else None. corners: [B, 4] float64 (x1, y1, x2, y2) of the annotations, exact, where the format does not
    state widths and heights, else None.
    """

    source: str
    content: dict[str, Any]
    faults: list[Fault] = field(default_factory=list)
    annotation_names: list[str] | None = None
    corners: np.ndarray | None = None

    @property
    def images(self) -> list[Row]:
        """The entries of the images, which are not copies."""
        return self.content["images"]

    @property
    def annotations(self) -> list[Row]:
        """The entries of the annotations, which are not copies."""
        return self.content["annotations"]

    @property
    def categories(self) -> list[Row]:
        """The entries of the categories, which are not copies."""
        return self.content["categories"]


def count_ignored(count: int, data_format: Format | str) -> str:
    """How many annotations are neither trained on nor scored, by what the format calls them, and whose rule that is."""
    what, whose = ("difficult object", "VOC's") if data_format == "voc" else ("crowd region", "COCO's")
    return f"{count:,} {what}{'' if count == 1 else 's'}: ignored, as in {whose} own scoring"


def required_folder(images: str | Path | None, why: str) -> Path:
    """The folder of pictures. Raises UserError where it is not given, or is none."""
    if images is None:
        raise UserError(f"give the folder of the pictures with --images: {why}.")
    if not Path(images).is_dir():
        raise UserError(f"{images}: no such folder of pictures. Check the path.")
    return Path(images)
