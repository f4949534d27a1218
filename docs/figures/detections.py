"""Draw `docs/detections.jpg`: pictures of the embedded set's test split on which a model is right, six to a sheet.

    python docs/figures/detections.py output/quickstart/model_final.safetensors

A picture counts as right when its detections of at least half certainty and its objects pair up one to one: the same
class, IoU of at least a half. How many of the split's pictures are right is printed.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
import torch

import detector
from detector.boxes import pairwise_iou
from detector.datasets.formats.open_dataset import open_dataset
from detector.datasets.pictures.read import read_image
from detector.inference.detections import Detections
from detector.structures import Sample

PROJECT = Path(__file__).resolve().parents[2]
OUTPUT = PROJECT / "docs" / "detections.jpg"
SHAPES = PROJECT / "data" / "shapes"
ROWS, COLUMNS, WIDTH, HEIGHT, GAP = 2, 3, 480, 360, 8
FEWEST_OBJECTS, CERTAIN = 3, 0.5


def is_right(detections: Detections, sample: Sample) -> bool:
    """Whether detections [D] and objects [G] of one picture pair up, D = G."""
    if len(detections) != len(sample.labels):
        return False
    iou = pairwise_iou(detections.boxes.double(), torch.from_numpy(sample.boxes))
    same = detections.labels[:, None] == torch.from_numpy(sample.labels)[None, :]
    pairs = (iou >= 0.5) & same
    return bool((pairs.sum(0) == 1).all() and (pairs.sum(1) == 1).all())


def tile(picture: np.ndarray) -> np.ndarray:
    """[H, W, 3] fitted into a field of HEIGHT × WIDTH, white around it."""
    scale = min(WIDTH / picture.shape[1], HEIGHT / picture.shape[0])
    size = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
    field = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    top, left = (HEIGHT - size[1]) // 2, (WIDTH - size[0]) // 2
    field[top : top + size[1], left : left + size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
    return field


def enlarged(picture: np.ndarray, detections: Detections) -> np.ndarray:
    """The picture twice as large with its detections, so that letters are sharp."""
    large = cv2.resize(picture, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    moved = Detections(
        2 * detections.boxes, detections.scores, detections.labels, large.shape[:2], detections.categories
    )
    return moved.draw(large)


def main() -> None:
    model = detector.load(sys.argv[1], device="cpu")
    dataset = open_dataset("coco", str(SHAPES / "test.json"), str(SHAPES / "test"))
    right: list[tuple[int, np.ndarray]] = []
    count = 0
    for index in range(len(dataset)):
        sample = dataset[index]
        picture = read_image(sample.path)
        detections = model.predict(picture, score_threshold=CERTAIN)
        if is_right(detections, sample):
            count += 1
            if len(sample.labels) >= FEWEST_OBJECTS and picture.shape[1] > picture.shape[0]:
                right.append((len(sample.labels), enlarged(picture, detections)))
    print(f"right on {count} of {len(dataset)} pictures")
    right.sort(key=lambda pair: -pair[0])
    tiles = [tile(picture) for _, picture in right[: ROWS * COLUMNS]]
    sheet = np.full((ROWS * (HEIGHT + GAP) - GAP, COLUMNS * (WIDTH + GAP) - GAP, 3), 255, np.uint8)
    for place, one in enumerate(tiles):
        top, left = place // COLUMNS * (HEIGHT + GAP), place % COLUMNS * (WIDTH + GAP)
        sheet[top : top + HEIGHT, left : left + WIDTH] = one
    cv2.imwrite(str(OUTPUT), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    print(f"wrote {OUTPUT}")


if __name__ == "__main__":
    main()
