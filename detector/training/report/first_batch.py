"""What the network is shown in its first step: pictures as they are resized and augmented, with their boxes."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from detector.categories import CategoryMap
from detector.datasets.dataset import DetectionDataset
from detector.datasets.loading.batch import TrainingBatch
from detector.disk import write_atomically
from detector.drawing.annotate import draw_detections
from detector.drawing.mosaic import Row, draw_mosaic
from detector.errors import UserError
from detector.printing import printable
from detector.training.report.logs import RunLog

_MOST = 8  # pictures
_EDGE = 480  # pixels of the longest edge


def write_first_batch(path: Path, batches: Sequence[TrainingBatch], dataset: DetectionDataset, log: RunLog) -> None:
    """Draw the pictures of a step side by side, each over its file's name, into a JPEG and TensorBoard.

    Args:
        path: of the JPEG.
        batches: the step's micro-batches in this process.
        dataset: that they are of.
        log: gets the picture, and a warning where it cannot be written.
    """
    tiles = [
        (framed, _file_name(dataset, image_id))
        for batch in batches
        for framed, image_id in zip(_pictures(batch, dataset.categories), batch.images.image_ids, strict=True)
    ][:_MOST]
    sheet = draw_mosaic([Row("the first step's pictures as the network sees them", tiles)], _EDGE)
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    assert encoded
    try:
        write_atomically(path, data.tobytes())
    except (UserError, OSError) as error:
        log.warning(f"no picture of the first batch: {error}")
    log.picture(0, "first_batch", sheet)


def _file_name(dataset: DetectionDataset, image_id: int) -> str:
    return printable(dataset.file_name(int(np.argmax(dataset.image_ids == image_id))))


def _pictures(batch: TrainingBatch, categories: CategoryMap) -> list[np.ndarray]:
    pictures = []
    for pixels, (height, width), target in zip(batch.images.pixels, batch.images.sizes, batch.targets, strict=True):
        image = pixels[:, :height, :width].permute(1, 2, 0).clamp(0, 255).round().byte().cpu().numpy()
        pictures.append(
            draw_detections(
                np.ascontiguousarray(image), target.boxes.cpu(), target.labels.cpu(), None, categories.names
            )
        )
    return pictures
