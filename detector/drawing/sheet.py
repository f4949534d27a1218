"""Detections beside ground truth, in one picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detector.categories import CategoryMap
from detector.drawing.annotate import draw_detections, side_by_side


def draw_sheet(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    detections: Sequence[Mapping[str, Any]],
    categories: CategoryMap,
) -> np.ndarray:
    """Detections on the left, ground truth on the right.

    Args:
        image: [H, W, 3] uint8 RGB.
        boxes: [G, 4] xyxy in pixels of `image`.
        labels: [G], 1..K.
        detections: COCO results of this picture, boxes [x, y, width, height] in its pixels.
        categories: what the labels and the detections' category ids mean.

    Returns:
        [H', W', 3] uint8 RGB.
    """
    corners = np.array([d["bbox"] for d in detections], np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    detected_labels = np.array([categories.label_of(d["category_id"]) for d in detections], np.int64)
    scores = np.array([d["score"] for d in detections], np.float64)
    return side_by_side(
        draw_detections(image, corners, detected_labels, scores, categories.names),
        draw_detections(image, boxes, labels, None, categories.names),
        ("detections", "ground truth"),
    )
