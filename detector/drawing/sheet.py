"""Pictures of detections beside ground truth, to see what a model has learnt."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detector.categories import CategoryMap
from detector.datasets.dataset import DetectionDataset
from detector.datasets.pictures.read import read_image
from detector.disk import write_atomically
from detector.drawing.boxes import draw_detections, side_by_side
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
        found = [d for d in detections if d["image_id"] == sample.image_id and d["score"] >= SCORE_THRESHOLD]
        try:
            image = read_image(sample.path)
            folder.mkdir(parents=True, exist_ok=True)
            sheet = draw_sheet(image, sample.boxes, sample.labels, found, dataset.categories)
            _write_jpeg(folder / f"image_{sample.image_id}.jpg", sheet)
        except (UserError, OSError) as error:
            log.warning(f"no sample picture of image {sample.image_id}: {error}")
            continue
        log.picture(iteration, f"samples/{sample.image_id}", _shrink(sheet))


def draw_sheet(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    detections: Sequence[Mapping[str, Any]],
    categories: CategoryMap,
) -> np.ndarray:
    """Detections on the left, ground truth on the right.

    Args:
        image: [H, W, 3] uint8 RGB. boxes: [G, 4] xyxy in its pixels. labels: [G], 1..K.
        detections: COCO results of this picture.

    Returns:
        [H', W', 3] uint8 RGB.
    """
    corners = np.array([d["bbox"] for d in detections], np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    found_labels = np.array([categories.label_of(d["category_id"]) for d in detections], np.int64)
    scores = np.array([d["score"] for d in detections], np.float64)
    return side_by_side(
        draw_detections(image, corners, found_labels, scores, categories.names),
        draw_detections(image, boxes, labels, None, categories.names),
        ("detections", "ground truth"),
    )


def _write_jpeg(path: Path, image: np.ndarray) -> None:
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert encoded
    write_atomically(path, data.tobytes())


def _shrink(image: np.ndarray) -> np.ndarray:
    scale = min(1.0, MAX_EDGE / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
