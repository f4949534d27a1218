"""Annotations as arrays, with nothing refused: what cannot be used is marked, so that all faults can be found."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detector.datasets.checks.faults import Fault, Kind
from detector.datasets.dataset import DetectionDataset


@dataclass(frozen=True)
class Columns:
    """What annotations say of N images, B boxes and K categories.

    source: for messages. image_ids: [N] int64. file_names: N, empty where it is unusable. sizes: [N, 2] int64 (height,
    width), 0 where unknown. image_places, category_places: [N] and [K], where each stands in its file's list.
    annotation_names: B ids or words for messages. annotation_ids: [B] int64, or None where the format has none.
    owners: [B] int64, index of the box's image, −1 where there is none. classes: [B] int64, index of its category, −1
    where there is none. boxes: [B, 4] float64 (x, y, width, height), pixels of the original image. readable: [B] bool,
    whether the box could be read at all. iscrowd: [B] bool. categories: (id, name) of each.
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
    readable: np.ndarray
    iscrowd: np.ndarray
    categories: Sequence[tuple[int, str]]

    def image_fault(self, kind: Kind, image: int, detail: str = "") -> Fault:
        """A fault of the image with this index."""
        place = self.image_places[image]
        return Fault(kind, int(self.image_ids[image]), self.file_names[image], None, detail, place)

    def box_fault(self, kind: Kind, box: int, detail: str = "") -> Fault:
        """A fault of the box with this index."""
        owner = int(self.owners[box])
        image_id, name = (int(self.image_ids[owner]), self.file_names[owner]) if owner >= 0 else (None, "")
        return Fault(kind, image_id, name, self.annotation_names[box], detail, box)

    def with_missing_sizes(self, found: np.ndarray) -> "Columns":
        """The same, with sizes [N, 2] that were found in the pictures where the annotations state none."""
        return replace(self, sizes=np.where(self.sizes > 0, self.sizes, found))


def columns_of_dataset(dataset: DetectionDataset) -> Columns:
    """What was read for training. Its reader has refused what cannot be used, and left out boxes without area."""
    boxes = dataset.boxes.copy()
    boxes[:, 2:] -= boxes[:, :2]
    per_image = np.diff(np.concatenate(([0], dataset.box_ends)))
    categories = [(category.id, category.name) for category in dataset.categories.categories]
    return Columns(
        source=str(dataset.annotation_path),
        image_ids=dataset.image_ids,
        file_names=[dataset.file_name(index) for index in range(len(dataset))],
        sizes=dataset.sizes,
        image_places=range(len(dataset)),
        category_places=range(len(categories)),
        annotation_names=[None] * len(boxes),  # the file's ids are not kept
        annotation_ids=None,
        owners=np.repeat(np.arange(len(dataset)), per_image),
        classes=dataset.labels - 1,
        boxes=boxes,
        readable=np.ones(len(boxes), bool),
        iscrowd=dataset.iscrowd,
        categories=categories,
    )
