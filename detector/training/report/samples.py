"""Sample pictures of a run: the same few at every evaluation, to see what the model has learnt."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detector.datasets.dataset import DetectionDataset
from detector.datasets.pictures.read import read_image
from detector.disk import write_atomically
from detector.drawing.sheet import draw_sheet
from detector.errors import UserError
from detector.training.report.logs import RunLog

SCORE_THRESHOLD = 0.5
MAX_EDGE = 800  # of the pictures for TensorBoard, which keeps every one in its event file


def write_samples(
    folder: Path,
    dataset: DetectionDataset,
    detections: Sequence[Mapping[str, Any]],
    count: int,
    iteration: int,
    log: RunLog,
) -> None:
    """Draw `count` pictures, spread evenly over the dataset, and the same ones at every evaluation.

    Args:
        folder: gets `image_<id>.jpg`, replaced at every evaluation.
        dataset: with the ground truth.
        detections: COCO results, boxes in pixels of the original images. Scores below 0.5 are not drawn.
        count: of pictures; fewer where the dataset is smaller.
        iteration: for TensorBoard, which keeps them all.
        log: gets the pictures, and a warning for one that cannot be read or written.
    """
    positions = np.unique(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int))
    for position in positions.tolist():
        sample = dataset[position]
        shown = [d for d in detections if d["image_id"] == sample.image_id and d["score"] >= SCORE_THRESHOLD]
        try:
            image = read_image(sample.path)
            sheet = draw_sheet(image, sample.boxes, sample.labels, shown, dataset.categories)
            write_atomically(folder / f"image_{sample.image_id}.jpg", _jpeg(sheet))
        except (UserError, OSError) as error:
            log.warning(f"no sample picture of image {sample.image_id}: {error}")
            continue
        log.picture(iteration, f"samples/{sample.image_id}", _shrink(sheet))


def _jpeg(image: np.ndarray) -> bytes:
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert encoded
    return data.tobytes()


def _shrink(image: np.ndarray) -> np.ndarray:
    scale = min(1.0, MAX_EDGE / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
