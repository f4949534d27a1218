"""An annotated set of pictures, held in flat numpy buffers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.categories import CategoryMap, list_categories
from detector.errors import UserError
from detector.structures import Sample, Size


@dataclass(frozen=True)
class DetectionDataset:
    """Pictures with their annotations, in the frame of the original images.

    A handful of numpy arrays instead of a list of dicts: reading a Python object writes its reference count, so with
    lists every worker process would slowly copy all annotations. Made by `open_dataset`.

    Args:
        categories: what labels 1..K mean.
        annotation_path: the file or folder that it was read from.
        image_root: folder that the file names start at.
        image_ids: [N] int64.
        sizes: [N, 2] int64 (height, width), 0 where the annotations do not state it.
        names: N file names as UTF-8, one after another; name_ends: [N] int64 says where each ends.
        box_ends: [N] int64: the boxes of image i are those between its entry and the one before.
        boxes: [B, 4] float64 xyxy, absolute pixels. labels: [B] int64. iscrowd: [B] bool. areas: [B] float64, of the
            mask where the annotations know it, else of the box.
        dropped: how many boxes without area inside their picture were left out.
    """

    categories: CategoryMap
    annotation_path: str | None
    image_root: str
    image_ids: np.ndarray
    sizes: np.ndarray
    names: np.ndarray
    name_ends: np.ndarray
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
        return Sample(
            image_id=int(self.image_ids[index]),
            path=self.path(index),
            size=self.size(index),
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            iscrowd=self.iscrowd[rows],
        )

    def file_name(self, index: int) -> str:
        """Name of the picture, as the annotations spell it."""
        start = int(self.name_ends[index - 1]) if index else 0
        return self.names[start : int(self.name_ends[index])].tobytes().decode("utf-8", "surrogateescape")

    def path(self, index: int) -> str:
        """Where the picture lies."""
        return str(Path(self.image_root, self.file_name(index)))

    def size(self, index: int) -> Size | None:
        """(height, width) as the annotations state it, or None."""
        height, width = self.sizes[index].tolist()
        return (height, width) if height > 0 else None

    def object_counts(self) -> np.ndarray:
        """[N] int64: boxes of each picture that are not crowds."""
        totals = np.concatenate(([0], np.cumsum(~self.iscrowd)))[np.concatenate(([0], self.box_ends))]
        return np.diff(totals)

    def is_wide(self) -> np.ndarray:
        """[N] bool: wider than high, as the annotations state it; pictures of unknown size are not."""
        return self.sizes[:, 1] > self.sizes[:, 0]

    def to_coco(self) -> dict[str, Any]:
        """As the contents of a COCO file, with annotation ids from 1."""
        images = [
            {"id": image_id, "file_name": self.file_name(index)}
            | ({"height": size[0], "width": size[1]} if (size := self.size(index)) else {})
            for index, image_id in enumerate(self.image_ids.tolist())
        ]
        counts = np.diff(np.concatenate(([0], self.box_ends)))
        rows = zip(
            np.repeat(self.image_ids, counts).tolist(),
            self.labels.tolist(),
            self.boxes.tolist(),
            self.areas.tolist(),
            self.iscrowd.tolist(),
            strict=True,
        )
        annotations = [
            {
                "id": number,
                "image_id": image_id,
                "category_id": self.categories.id_of(label),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": area,
                "iscrowd": int(crowd),
            }
            for number, (image_id, label, (x1, y1, x2, y2), area, crowd) in enumerate(rows, start=1)
        ]
        return {"images": images, "annotations": annotations, "categories": self.categories.to_coco()}

    def _rows(self, index: int) -> slice:
        return slice(int(self.box_ends[index - 1]) if index else 0, int(self.box_ends[index]))


@dataclass(frozen=True)
class Annotations:
    """What a reader of one format found: columns of the images and columns of the boxes.

    image_ids: N. names: N file names below the images folder. sizes: N, None where unknown. owners: [B], the row of
    each box's image. boxes: [B, 4] float64 xyxy. labels, iscrowd, areas: [B]. box_names: B words for a box in a
    message, or None to number them.
    """

    image_ids: Sequence[int] | np.ndarray
    names: Sequence[str]
    sizes: Sequence[Size | None]
    owners: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    iscrowd: np.ndarray
    areas: np.ndarray
    box_names: Sequence[Any] | None = None


def make_dataset(
    found: Annotations,
    categories: CategoryMap,
    source: str,
    image_root: str | Path,
    drop_degenerate_boxes: bool = True,
) -> DetectionDataset:
    """Check what a reader found and lay it into flat buffers.

    Args:
        drop_degenerate_boxes: leave out boxes without area inside their picture, and count them; false refuses them.

    Raises:
        UserError: there is no image, an image id comes twice, a coordinate is not a finite number, or a box has no area
            and must have.
    """
    image_ids = np.asarray(found.image_ids, dtype=np.int64).reshape(-1)
    if len(image_ids) == 0:
        raise UserError(f"{source}: lists no images; check that it is the right file or folder.")
    unique, counts = np.unique(image_ids, return_counts=True)
    if (counts > 1).any():
        raise UserError(f"{source}: image id {unique[counts > 1][0]} comes {counts.max()} times; ids must be unique.")
    sizes = np.array([size or (0, 0) for size in found.sizes], dtype=np.int64).reshape(-1, 2)
    _refuse(~np.isfinite(found.boxes).all(axis=1), found, source, "has a coordinate that is not a finite number")
    degenerate = _without_area(found.boxes, sizes[found.owners])
    if not drop_degenerate_boxes:
        _refuse_degenerate(degenerate, found, source)
    # Stable: the boxes of an image keep their order.
    order = np.argsort(found.owners, kind="stable")
    order = order[~degenerate[order]]
    encoded = [name.encode("utf-8", "surrogateescape") for name in found.names]
    return DetectionDataset(
        categories=categories,
        annotation_path=source,
        image_root=str(image_root),
        image_ids=image_ids,
        sizes=sizes,
        names=np.frombuffer(b"".join(encoded), dtype=np.uint8),
        name_ends=np.cumsum([len(name) for name in encoded], dtype=np.int64),
        box_ends=np.cumsum(np.bincount(found.owners[order], minlength=len(image_ids)), dtype=np.int64),
        boxes=found.boxes[order],
        labels=found.labels[order],
        iscrowd=found.iscrowd[order],
        areas=found.areas[order],
        dropped=int(degenerate.sum()),
    )


def check_same_categories(first: DetectionDataset, second: DetectionDataset) -> None:
    """Refuse two splits whose categories differ in id, name or order: their labels would mean different things.

    Raises:
        UserError: listing what each has that the other lacks.
    """
    if first.categories == second.categories:
        return
    differences = []
    for split, other in ((first, second), (second, first)):
        only = [category for category in split.categories.categories if category not in other.categories.categories]
        if only:
            differences.append(f"only {split.annotation_path} has {list_categories(only)}")
    raise UserError(
        f"{first.annotation_path} and {second.annotation_path} have different categories: "
        f"{'; '.join(differences) or 'the same ones in another order'}. Give both the same list."
    )


def _without_area(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """[B] bool: the box has no area, or none inside its picture; one of unknown size has no right and lower edge."""
    limits = np.where(sizes > 0, sizes, np.inf)
    width = np.minimum(boxes[:, 2], limits[:, 1]) - np.maximum(boxes[:, 0], 0)
    height = np.minimum(boxes[:, 3], limits[:, 0]) - np.maximum(boxes[:, 1], 0)
    return (width <= 0) | (height <= 0)


def _refuse_degenerate(degenerate: np.ndarray, found: Annotations, source: str) -> None:
    if not degenerate.any():
        return
    x1, y1, x2, y2 = found.boxes[int(np.argmax(degenerate))].tolist()
    fault = "lies outside it" if x2 > x1 and y2 > y1 else f"has width {x2 - x1:g} and height {y2 - y1:g}"
    _refuse(degenerate, found, source, fault, "Remove it, or set data.drop_degenerate_boxes=true.")


def _refuse(bad: np.ndarray, found: Annotations, source: str, what: str, remedy: str = "Mend or remove it.") -> None:
    if not bad.any():
        return
    first = int(np.argmax(bad))
    name = first + 1 if found.box_names is None else found.box_names[first]
    image = found.names[int(found.owners[first])]
    others = f" ({int(bad.sum())} such boxes)" if bad.sum() > 1 else ""
    raise UserError(f"{source}: annotation {name} of image {image} {what}{others}. {remedy}")
