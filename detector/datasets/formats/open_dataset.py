"""One door to every annotation format."""

from pathlib import Path
from typing import Literal

from detector.datasets.dataset import DetectionDataset, check_same_categories
from detector.datasets.formats.coco import read_coco
from detector.datasets.formats.voc import read_voc
from detector.datasets.formats.yolo import read_yolo
from detector.errors import UserError


def open_dataset(
    data_format: Literal["coco", "voc", "yolo"] | str,
    annotations: str | Path,
    images: str | Path,
    drop_degenerate_boxes: bool = True,
    like: DetectionDataset | None = None,
) -> DetectionDataset:
    """Read an annotated set of pictures.

    Args:
        data_format: `coco`, `voc` or `yolo`.
        annotations: COCO's JSON file; VOC's folder of XML files, or a list file of names in ImageSets/Main; YOLO's
            data.yaml or folder of label files. `read_coco`, `read_voc` and `read_yolo` have the details.
        images: folder of the pictures.
        drop_degenerate_boxes: leave out boxes without area, and count them; false refuses them.
        like: the training split, where this is a split that goes with it and must have the same categories. A VOC tree
            has no list of its classes: alone, one in which a rare class is absent would number the others differently.

    Raises:
        UserError: the annotations cannot be read or contradict themselves, or their categories are others.
    """
    if not Path(images).is_dir():
        raise UserError(f"{images}: no such folder of pictures. Check the path.")
    if data_format == "coco":
        dataset = read_coco(annotations, images, drop_degenerate_boxes)
    elif data_format == "voc":
        dataset = read_voc(annotations, images, None if like is None else like.categories, drop_degenerate_boxes)
    elif data_format == "yolo":
        dataset = read_yolo(annotations, images, drop_degenerate_boxes)
    else:
        raise UserError(f"data.format={data_format}: choose coco, voc or yolo.")
    if like is not None:
        check_same_categories(like, dataset)
    return dataset
