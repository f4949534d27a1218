"""An annotated set of pictures, held in flat numpy buffers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detector.categories import CategoryMap
from detector.errors import UserError
from detector.structures import Sample, Size


@dataclass(frozen=True)
class DetectionDataset:
    """Pictures with their annotations, in the frame of the original images.

    A handful of numpy arrays instead of a list of dicts: reading a Python object writes its reference count, so with
    lists every worker process would slowly copy all annotations. Made by `detector.datasets.open.open_dataset`.

    Args:
        categories: what labels 1..K mean.
        annotation_path: the file or folder that it was read from.
        image_ids: [N] int64.
        sizes: [N, 2] int64 (height, width), 0 where the annotations do not state it.
        paths: N paths as UTF-8, one after another; path_ends: [N] int64 says where each ends.
        box_ends: [N] int64: the boxes of image i are those between its entry and the one before.
        boxes: [B, 4] float64 xyxy, absolute pixels. labels: [B] int64. iscrowd: [B] bool. areas: [B] float64, of the
            mask where the annotations know it, else of the box.
        dropped: how many boxes without area were left out.
    """

    categories: CategoryMap
    annotation_path: str | None
    image_ids: np.ndarray
    sizes: np.ndarray
    paths: np.ndarray
    path_ends: np.ndarray
    box_ends: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    iscrowd: np.ndarray
    areas: np.ndarray
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        rows = self._rows(index)
        height, width = (int(edge) for edge in self.sizes[index])
        return Sample(
            image_id=int(self.image_ids[index]),
            path=self.path(index),
            size=(height, width) if height > 0 else None,
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            iscrowd=self.iscrowd[rows],
        )

    def path(self, index: int) -> str:
        """Where the picture lies."""
        start = int(self.path_ends[index - 1]) if index else 0
        return self.paths[start : int(self.path_ends[index])].tobytes().decode("utf-8", "surrogateescape")

    def object_counts(self) -> np.ndarray:
        """[N] int64: boxes of each picture that are not crowds."""
        totals = np.concatenate(([0], np.cumsum(~self.iscrowd)))[np.concatenate(([0], self.box_ends))]
        return np.diff(totals)

    def is_wide(self) -> np.ndarray:
        """[N] bool: wider than high, as the annotations state it."""
        return self.sizes[:, 1] > self.sizes[:, 0]

    def to_coco(self) -> dict[str, Any]:
        """As the contents of a COCO file, with annotation ids from 1."""
        starts = np.concatenate(([0], self.box_ends[:-1])) if len(self) else self.box_ends
        owners = np.repeat(self.image_ids, self.box_ends - starts)
        images = [
            {"id": int(image_id), "file_name": self.path(i), "height": int(size[0]), "width": int(size[1])}
            for i, (image_id, size) in enumerate(zip(self.image_ids, self.sizes, strict=True))
        ]
        annotations = [
            {
                "id": number,
                "image_id": owner,
                "category_id": self.categories.id_of(label),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": area,
                "iscrowd": int(crowd),
            }
            for number, (owner, label, (x1, y1, x2, y2), area, crowd) in enumerate(
                zip(
                    owners.tolist(),
                    self.labels.tolist(),
                    self.boxes.tolist(),
                    self.areas.tolist(),
                    self.iscrowd.tolist(),
                    strict=True,
                ),
                start=1,
            )
        ]
        return {"images": images, "annotations": annotations, "categories": self.categories.to_coco()}

    def _rows(self, index: int) -> slice:
        return slice(int(self.box_ends[index - 1]) if index else 0, int(self.box_ends[index]))


@dataclass(frozen=True)
class Annotations:
    """What a reader of one format found: columns of the images and columns of the boxes.

    image_ids: N. paths: N. sizes: N, None where unknown. owners: [B], the row of each box's image. boxes: [B, 4]
    float64 xyxy. labels, iscrowd, areas: [B]. box_names: B words for a box in a message, or None to number them.
    """

    image_ids: Sequence[int]
    paths: Sequence[str]
    sizes: Sequence[Size | None]
    owners: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    iscrowd: np.ndarray
    areas: np.ndarray
    box_names: Sequence[Any] | None = None


def make_dataset(
    found: Annotations, categories: CategoryMap, source: str, drop_degenerate_boxes: bool = True
) -> DetectionDataset:
    """Check what a reader found and lay it into flat buffers.

    Args:
        drop_degenerate_boxes: leave out boxes without area and count them; otherwise refuse them.

    Raises:
        UserError: an image id comes twice, a coordinate is not a finite number, or a box has no area and must have.
    """
    image_ids = np.asarray(found.image_ids, dtype=np.int64).reshape(-1)
    unique, counts = np.unique(image_ids, return_counts=True)
    if (counts > 1).any():
        raise UserError(f"{source}: image id {unique[counts > 1][0]} comes {counts.max()} times; ids must be unique.")
    _refuse(~np.isfinite(found.boxes).all(axis=1), found, source, "has a coordinate that is not a finite number")
    flat = (found.boxes[:, 2] <= found.boxes[:, 0]) | (found.boxes[:, 3] <= found.boxes[:, 1])
    if not drop_degenerate_boxes:
        _refuse(flat, found, source, "has no area", " Remove it, or set data.drop_degenerate_boxes=true.")
    # Stable: the boxes of an image keep their order.
    order = np.argsort(found.owners, kind="stable")
    order = order[~flat[order]]
    encoded = [path.encode("utf-8", "surrogateescape") for path in found.paths]
    return DetectionDataset(
        categories=categories,
        annotation_path=source,
        image_ids=image_ids,
        sizes=np.array([size or (0, 0) for size in found.sizes], dtype=np.int64).reshape(-1, 2),
        paths=np.frombuffer(b"".join(encoded), dtype=np.uint8),
        path_ends=np.cumsum([len(path) for path in encoded], dtype=np.int64),
        box_ends=np.cumsum(np.bincount(found.owners[order], minlength=len(image_ids)), dtype=np.int64),
        boxes=found.boxes[order],
        labels=found.labels[order],
        iscrowd=found.iscrowd[order],
        areas=found.areas[order],
        dropped=int(flat.sum()),
    )


def _refuse(bad: np.ndarray, found: Annotations, source: str, what: str, remedy: str = "") -> None:
    if not bad.any():
        return
    first = int(np.flatnonzero(bad)[0])
    name = first + 1 if found.box_names is None else found.box_names[first]
    image = found.paths[int(found.owners[first])]
    others = f" ({int(bad.sum())} such boxes)" if bad.sum() > 1 else ""
    raise UserError(f"{source}: annotation {name} of image {image} {what}{others}.{remedy or ' Mend or remove it.'}")
