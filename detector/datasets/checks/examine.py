"""All checks in order, on files of any format; and the short form of them with which a training run begins."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detector.datasets.checks.across_splits import check_leaks
from detector.datasets.checks.annotations import check_annotations
from detector.datasets.checks.pictures import Picture, check_pictures, open_pictures, sizes_of
from detector.datasets.columns import Columns
from detector.datasets.dataset import DetectionDataset
from detector.datasets.fault_kinds import UNUSED_CATEGORY
from detector.datasets.faults import Fault, summarise
from detector.datasets.formats.contents import Contents, Format, required_folder
from detector.datasets.formats.open_dataset import read_contents
from detector.datasets.formats.parsing import parse
from detector.datasets.pictures.read import MAX_PIXELS
from detector.printing import printable

MANY_BOXES = 10_000  # in one picture: more than COCO's most crowded has by two orders of magnitude


@dataclass(frozen=True)
class Examined:
    """A set of annotations with its faults. pictures: one for each image of `columns`, None where they stay closed."""

    contents: Contents
    columns: Columns
    pictures: list[Picture] | None
    faults: list[Fault]


def examine(
    data_format: Format,
    annotations: str | Path,
    images: str | Path | None,
    progress: Callable[[Iterable[Picture], int], Iterable[Picture]],
    open_files: bool = True,
    workers: int = 1,
    keep_masks: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Examined:
    """Find every fault of a set of annotations.

    Args:
        data_format, annotations: as `detector.datasets.formats.open_dataset.open_dataset` takes them.
        images: folder of the pictures; None will do where they stay closed, except for YOLO.
        progress, workers: see `open_pictures`.
        open_files: decode the pictures. Without, only what the annotations say is checked.
        keep_masks: keep `segmentation`, for those who will write the annotations again.
        max_pixels: larger pictures are faults.

    Raises:
        UserError: the annotations cannot be read at all.
    """
    folder = required_folder(images, "the pictures are opened (or --no-images)") if open_files else None
    contents = read_contents(data_format, annotations, images, "keep" if keep_masks else "compare")
    columns, faults = parse(contents)
    pictures = None
    if folder is not None:
        pictures = open_pictures(columns, folder, workers, progress, max_pixels)
        columns = columns.with_missing_sizes(sizes_of(pictures))
        known = {(fault.kind, fault.place) for fault in faults}
        faults += [f for f in check_pictures(columns, pictures) if (f.kind, f.place) not in known]
    return Examined(contents, columns, pictures, [*faults, *check_annotations(columns, data_format == "yolo")])


def check_before_training(train: DetectionDataset, val: DetectionDataset | None) -> list[str]:
    """What is worth a warning in data that was read for training; COCO's takes a second or two.

    No picture is decoded, and none opened but those of smaller sets that may be copies (`check_leaks`).

    Returns:
        One line for each kind of fault: how many, the first, and what to do. None for sound data. Boxes that the reader
        left out are counted.
    """
    lines: list[str] = []
    splits: Sequence[DetectionDataset] = (train,) if val is None else (train, val)
    columns = [columns_of_dataset(split) for split in splits]
    for split, its_columns in zip(splits, columns, strict=True):
        lines += [f"{split.annotation_path}: {note}" for note in split.notes]
        faults = check_annotations(its_columns, by_centre=not split.is_coco_file)
        if split is not train:  # a class may be rare
            faults = [fault for fault in faults if fault.kind is not UNUSED_CATEGORY]
        if split.dropped:
            lines.append(
                f"{split.annotation_path}: {split.dropped} × a box without area inside its picture, left out; "
                "faster-rcnn check-data lists them."
            )
        per_image = split.box_counts()
        if len(per_image) and per_image.max() > MANY_BOXES:
            crowded = int(per_image.argmax())
            lines.append(
                f"{split.annotation_path}: {printable(split.file_name(crowded))} has {per_image[crowded]} boxes; a "
                "step with it takes long and much memory: cut the picture into tiles, or leave it out."
            )
        lines += [f"{split.annotation_path}: {line}" for line in summarise(faults)]
    if val is not None:
        leaks = check_leaks(columns[0], Path(train.image_root), columns[1], Path(val.image_root))
        lines += [f"{train.annotation_path}: {line}" for line in summarise(leaks)]
    return list(dict.fromkeys(lines))  # splits of one file say some things twice


def columns_of_dataset(dataset: DetectionDataset) -> Columns:
    """What was read for training. Its reader has refused what cannot be used, and left out boxes without area."""
    boxes = dataset.boxes.copy()
    boxes[:, 2:] -= boxes[:, :2]
    per_image = dataset.box_counts()
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
        corners=dataset.boxes,
        readable=np.ones(len(boxes), bool),
        areas=dataset.areas,
        iscrowd=dataset.iscrowd,
        categories=categories,
    )
