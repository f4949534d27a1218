"""Annotations and detections of the size of COCO val2017."""

from typing import Any

import numpy as np

from detector.categories import CategoryMap
from detector.evaluation.ground_truth import GroundTruth

IMAGES, BOXES, DETECTIONS_PER_IMAGE = 5_000, 36_000, 100
CATEGORY_IDS = np.setdiff1d(np.arange(1, 91), [12, 26, 29, 30, 45, 66, 68, 69, 71, 83])  # COCO's 80

# Of detections, the share that lies near a box; of these, the share that names another category.
NEAR, CONFUSED = 0.35, 0.2
CROWDS = 0.0115  # share of val2017's boxes


def make_problem(scale: float = 1.0) -> tuple[GroundTruth, list[dict[str, Any]]]:
    """Random boxes of categories with falling frequency, and COCO results; `scale` below 1 gives fewer of all."""
    generator = np.random.default_rng(0)
    images, boxes = int(IMAGES * scale), int(BOXES * scale)
    frequency = 1 / np.arange(1, len(CATEGORY_IDS) + 1)
    frequency /= frequency.sum()
    truth_boxes = _boxes(generator, boxes)
    truth = GroundTruth(
        "synthetic",
        CategoryMap.from_coco([{"id": int(c), "name": str(c)} for c in CATEGORY_IDS]),
        np.arange(images),
        generator.integers(0, images, boxes),
        generator.choice(CATEGORY_IDS, boxes, p=frequency),
        truth_boxes,
        truth_boxes[:, 2] * truth_boxes[:, 3],
        generator.random(boxes) < CROWDS,
    )
    return truth, _detections(truth, frequency, generator)


def _detections(truth: GroundTruth, frequency: np.ndarray, generator: np.random.Generator) -> list[dict[str, Any]]:
    """The same number in every image; those near a box take one of the image's, where it has any."""
    image_of = np.repeat(truth.image_ids, DETECTIONS_PER_IMAGE)
    count = len(image_of)
    by_image = np.argsort(truth.image_of, kind="stable")
    starts = np.searchsorted(truth.image_of[by_image], image_of)
    ends = np.searchsorted(truth.image_of[by_image], image_of, side="right")
    has_boxes = ends > starts
    chosen = by_image[
        np.where(has_boxes, starts + generator.integers(0, 2**31, count) % np.maximum(ends - starts, 1), 0)
    ]
    near = has_boxes & (generator.random(count) < NEAR)
    moved = truth.boxes[chosen] * generator.uniform(0.8, 1.25, (count, 4))
    boxes = np.where(near[:, None], moved, _boxes(generator, count))
    right = near & (generator.random(count) >= CONFUSED)
    category_of = np.where(right, truth.category_of[chosen], generator.choice(CATEGORY_IDS, count, p=frequency))
    rows = zip(image_of.tolist(), category_of.tolist(), boxes.tolist(), generator.random(count).tolist(), strict=True)
    return [{"image_id": i, "category_id": c, "bbox": b, "score": s} for i, c, b, s in rows]


def _boxes(generator: np.random.Generator, count: int) -> np.ndarray:
    """[count, 4] x, y, width, height."""
    extent = np.exp(generator.uniform(np.log(5), np.log(300), (count, 2)))
    return np.concatenate((generator.uniform(0, 400, (count, 2)), extent), axis=1)
