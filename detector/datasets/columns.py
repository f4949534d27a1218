"""Annotations as arrays, with nothing refused: what cannot be used is marked, so that all faults can be found."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detector.datasets.fault_kinds import Kind
from detector.datasets.faults import Fault


@dataclass(frozen=True)
class Columns:
    """What annotations say of N images, B boxes and K categories.

    source: for messages. image_ids: [N] int64. file_names: N, empty where it is unusable. sizes: [N, 2] int64 (height,
    width), 0 where unknown. image_places, category_places: [N] and [K], where each stands in its file's list.
    annotation_names: B ids or words for messages. annotation_ids: [B] int64, or None where the format has none.
    owners: [B] int64, index of the box's image, −1 where there is none. classes: [B] int64, index of its category, −1
    where there is none. boxes: [B, 4] float64 (x, y, width, height), pixels of the original image. corners: [B, 4]
    float64, the same as (x1, y1, x2, y2), as exactly as the format states them. Negative widths and heights stay as
    they are in both. readable: [B] bool, whether the box could be read at all. areas: [B] float64, of the mask where
    the annotations know it, else of the box. iscrowd: [B] bool. categories: (id, name) of each.
    """

    source: str
    image_ids: np.ndarray
    file_names: Sequence[str]
    sizes: np.ndarray
    image_places: Sequence[int]
    category_places: Sequence[int]
    annotation_names: Sequence[Any]
    annotation_ids: np.ndarray | None
    owners: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    corners: np.ndarray
    readable: np.ndarray
    areas: np.ndarray
    iscrowd: np.ndarray
    categories: Sequence[tuple[int, str]]

    def image_fault(self, kind: Kind, image: int, detail: str = "") -> Fault:
        """Make a fault of the image with this index."""
        place = self.image_places[image]
        return Fault(kind, int(self.image_ids[image]), self.file_names[image], None, detail, place)

    def box_fault(self, kind: Kind, box: int, detail: str = "") -> Fault:
        """Make a fault of the box with this index."""
        owner = int(self.owners[box])
        image_id, name = (int(self.image_ids[owner]), self.file_names[owner]) if owner >= 0 else (None, "")
        return Fault(kind, image_id, name, self.annotation_names[box], detail, box)

    def describe_box(self, box: int) -> str:
        """A box in the order of COCO, and its picture's size where it is stated."""
        owner = int(self.owners[box])
        height, width = self.sizes[owner].tolist() if owner >= 0 else (0, 0)
        size = f" in a picture of {width}x{height}" if height > 0 else ""
        return f"bbox [{', '.join(f'{value:.10g}' for value in self.boxes[box].tolist())}]{size}"

    def sizes_of_boxes(self) -> np.ndarray:
        """[B, 2] int64 (height, width): of the picture that has each box, 0 where picture or size are not known."""
        if len(self.sizes) == 0:
            return np.zeros((len(self.boxes), 2), np.int64)
        return np.where(self.owners[:, None] >= 0, self.sizes[self.owners], 0)

    def with_missing_sizes(self, sizes: np.ndarray) -> "Columns":
        """A copy in which sizes that the annotations do not state are taken from `sizes`, [N, 2] (height, width)."""
        return replace(self, sizes=np.where(self.sizes > 0, self.sizes, sizes))


def ordered(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corners ([B, 2] each, x and y) in order, whatever the signs of widths and heights."""
    return np.minimum(low, high), np.maximum(low, high)
