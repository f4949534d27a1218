"""An annotated set of pictures, held in flat numpy buffers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.categories import Category, CategoryMap, list_categories
from detector.datasets.columns import Columns, ordered
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
        is_coco_file: `annotation_path` is a COCO file, which scoring reads as it stands.
        notes: a line for each kind of thing that was not read as it stands.
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
    is_coco_file: bool = False
    notes: tuple[str, ...] = ()

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
        """The path of the picture."""
        return str(Path(self.image_root, self.file_name(index)))

    def size(self, index: int) -> Size | None:
        """(height, width) as the annotations state it, or None."""
        height, width = self.sizes[index].tolist()
        return (height, width) if height > 0 else None

    def box_counts(self) -> np.ndarray:
        """[N] int64: boxes of each picture, crowds too."""
        return np.diff(np.concatenate(([0], self.box_ends)))

    def object_counts(self) -> np.ndarray:
        """[N] int64: boxes of each picture that are not crowds."""
        totals = np.concatenate(([0], np.cumsum(~self.iscrowd)))[np.concatenate(([0], self.box_ends))]
        return np.diff(totals)

    def is_wide(self) -> np.ndarray:
        """[N] bool: wider than high, as the annotations state it; pictures of unknown size are not."""
        return self.sizes[:, 1] > self.sizes[:, 0]

    def to_coco(self) -> dict[str, Any]:
        """The dataset as the contents of a COCO file, with annotation ids from 1."""
        images = [
            {"id": image_id, "file_name": self.file_name(index)}
            | ({"height": size[0], "width": size[1]} if (size := self.size(index)) else {})
            for index, image_id in enumerate(self.image_ids.tolist())
        ]
        counts = self.box_counts()
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


def make_dataset(
    columns: Columns,
    image_root: str | Path,
    drop_degenerate_boxes: bool = True,
    max_dropped: float = 1.0,
    is_coco_file: bool = False,
    notes: Sequence[str] = (),
) -> DetectionDataset:
    """Lay columns without faults that stop training into flat buffers. Exchanged corners are put in order.

    Args:
        image_root: folder that the file names start at.
        drop_degenerate_boxes: leave out boxes without area inside their picture, and count them; false refuses them.
        max_dropped: the greatest share of the boxes that may be left out.
        is_coco_file: the columns are those of one.
        notes: see `DetectionDataset`.

    Raises:
        UserError: there is no image or category, a box has no area and must have, or too many have none.
    """
    source = columns.source
    if len(columns.image_ids) == 0:
        where = "" if is_coco_file else f" in {image_root}"
        raise UserError(f"{source}: lists no images{where}; check that it is the right file or folder.")
    if not columns.categories:
        why = "give each an id and a name, or" if is_coco_file else "none of its files has an object;"
        raise UserError(f"{source}: has no classes; {why} check that it is the right one.")
    degenerate = _without_area(columns.corners, columns.sizes[columns.owners])
    if not drop_degenerate_boxes:
        _refuse_degenerate(columns, degenerate)
    _refuse_too_many(columns, degenerate, max_dropped)
    # Stable: the boxes of an image keep their order.
    order = np.argsort(columns.owners, kind="stable")
    order = order[~degenerate[order]]
    by_id = np.argsort([number for number, _ in columns.categories], kind="stable")
    labels = np.empty(len(by_id), np.int64)
    labels[by_id] = np.arange(1, len(by_id) + 1)
    encoded = [name.encode("utf-8", "surrogateescape") for name in columns.file_names]
    corners = columns.corners[order]
    return DetectionDataset(
        categories=CategoryMap(tuple(Category(*columns.categories[place]) for place in by_id)),
        annotation_path=source,
        image_root=str(image_root),
        image_ids=columns.image_ids,
        sizes=columns.sizes,
        names=np.frombuffer(b"".join(encoded), dtype=np.uint8),
        name_ends=np.cumsum([len(name) for name in encoded], dtype=np.int64),
        box_ends=np.cumsum(np.bincount(columns.owners[order], minlength=len(columns.image_ids)), dtype=np.int64),
        boxes=np.hstack(ordered(corners[:, :2], corners[:, 2:])),
        labels=labels[columns.classes[order]],
        iscrowd=columns.iscrowd[order],
        areas=columns.areas[order],
        dropped=int(degenerate.sum()),
        is_coco_file=is_coco_file,
        notes=tuple(notes),
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


def _without_area(corners: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """[B] bool: the box has no area, or none inside its picture; one of unknown size has no right and lower edge."""
    low, high = ordered(corners[:, :2], corners[:, 2:])
    limits = np.where(sizes > 0, sizes, np.inf)[:, ::-1]
    return (np.minimum(high, limits) <= np.maximum(low, 0)).any(axis=1)


def _refuse_degenerate(columns: Columns, degenerate: np.ndarray) -> None:
    if not degenerate.any():
        return
    count = int(degenerate.sum())
    others = f" ({count} such boxes)" if count > 1 else ""
    remedy = "Correct or remove it, or set data.drop_degenerate_boxes=true."
    raise UserError(f"{columns.source}: {_describe_first(columns, degenerate)}{others}. {remedy}")


def _refuse_too_many(columns: Columns, degenerate: np.ndarray, max_dropped: float) -> None:
    """A few boxes without area are slips; many are boxes in another form, or of pictures of another size."""
    count, total = int(degenerate.sum()), len(degenerate)
    if count <= max_dropped * total:
        return
    raise UserError(
        f"{columns.source}: {count} of {total} boxes ({count / total:.1%}) have no area inside their picture and would "
        f"be left out, more than data.max_dropped={max_dropped:g} allows; the first: "
        f"{_describe_first(columns, degenerate)}. Correct them (faster-rcnn check-data lists them), or raise the limit."
    )


def _describe_first(columns: Columns, degenerate: np.ndarray) -> str:
    box = int(np.argmax(degenerate))
    x1, y1, x2, y2 = columns.corners[box].tolist()
    fault = "lies outside it" if x1 != x2 and y1 != y2 else f"has width {x2 - x1:g} and height {y2 - y1:g}"
    return f"annotation {columns.annotation_names[box]} of image {columns.file_names[int(columns.owners[box])]} {fault}"
