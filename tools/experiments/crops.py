"""The objects of the embedded set as small square pictures, for networks that classify."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from detector.datasets.formats.open_dataset import open_dataset
from detector.datasets.pictures.read import read_image
from detector.datasets.shapes import ensure_shapes


class Crops(NamedTuple):
    """M pictures of one object each. pixels: [M, 3, S, S] uint8 RGB. labels: [M] int64, 0..K−1.

    They are arrays of NumPy, which other processes get without sharing memory.
    """

    pixels: np.ndarray
    labels: np.ndarray


class CropSets(NamedTuple):
    """Crops of the splits train and val, and the K classes' names."""

    train: Crops
    val: Crops
    names: tuple[str, ...]


def load_crops(folder: Path, size: int) -> CropSets:
    """Cut out every object of the embedded set's splits train and val.

    Args:
        folder: of the set, which is rendered where it is missing.
        size: edge of a crop in pixels.
    """
    ensure_shapes(folder)
    splits = {}
    for split in ("train", "val"):
        dataset = open_dataset("coco", folder / f"{split}.json", folder / split)
        pixels, labels = [], []
        for sample in (dataset[i] for i in range(len(dataset))):
            picture = read_image(sample.path)
            pixels += [cut_out(picture, box, size) for box in sample.boxes]
            labels.append(sample.labels - 1)
        splits[split] = Crops(np.stack(pixels).transpose(0, 3, 1, 2).copy(), np.concatenate(labels))
    return CropSets(splits["train"], splits["val"], tuple(dataset.categories.names))


def with_noise(sets: CropSets, deviation: float, seed: int) -> CropSets:
    """The crops with noise that belongs to them: Gaussian, the same whenever they are seen, cut at 0 and 255.

    deviation: in grey levels, of every channel of every pixel.
    """
    generator = np.random.default_rng(seed)

    def noisy(crops: Crops) -> Crops:
        pixels = crops.pixels + generator.normal(0, deviation, crops.pixels.shape)
        return Crops(pixels.round().clip(0, 255).astype(np.uint8), crops.labels)

    return CropSets(noisy(sets.train), noisy(sets.val), sets.names)


def cut_out(picture: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """The square around a box, as large as its longer edge, moved into the picture and averaged down.

    Args:
        picture: [H, W, 3] uint8.
        box: [4] xyxy, pixels of the picture.
        size: edge of the result.

    Returns:
        [size, size, 3] uint8.
    """
    height, width = picture.shape[:2]
    edge = min(max(1, round(max(box[2] - box[0], box[3] - box[1]))), height, width)
    left = min(max(round((box[0] + box[2] - edge) / 2), 0), width - edge)
    top = min(max(round((box[1] + box[3] - edge) / 2), 0), height - edge)
    square = picture[top : top + edge, left : left + edge]
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
