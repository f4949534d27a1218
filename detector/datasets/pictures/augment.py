"""Random crop and colour jitter. Colours are albumentations' work; boxes never pass through it, as it rounds them."""

import os

import numpy as np
from torch import Tensor

from detector import boxes as box_geometry
from detector.config import AugmentConfig


def random_crop(
    image: np.ndarray, boxes: Tensor, labels: Tensor, min_scale: float, rng: np.random.Generator
) -> tuple[np.ndarray, Tensor, Tensor]:
    """Cut out a random rectangle that contains the centre of at least one box, chosen at random.

    Boxes whose centre lies outside are gone, the others are cut to the rectangle (SSD §2.2, data augmentation). Of a
    picture without boxes any rectangle will do.

    Args:
        image: [H, W, 3] uint8.
        boxes: [G, 4] float64 xyxy, pixels of `image`.
        labels: [G] int64.
        min_scale: smallest height and width of the rectangle, as fractions of the image's; drawn separately.
        rng: decides.

    Returns:
        The rectangle (a view), and the boxes and labels left, in its frame.
    """
    height, width = image.shape[:2]
    boxes = box_geometry.clip(boxes, (height, width))
    visible = box_geometry.is_larger_than(boxes, 0.0)
    boxes, labels = boxes[visible], labels[visible]
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    new_height, new_width = (max(1, round(side * rng.uniform(min_scale, 1.0))) for side in (height, width))
    x_center, y_center = centers[int(rng.integers(len(centers)))].tolist() if len(centers) else (None, None)
    top = _random_start(height, new_height, y_center, rng)
    left = _random_start(width, new_width, x_center, rng)

    start = boxes.new_tensor((left, top))
    inside = (centers >= start) & (centers <= start + boxes.new_tensor((new_width, new_height)))
    kept = inside.all(dim=1)
    boxes = box_geometry.clip(boxes[kept] - start.repeat(2), (new_height, new_width))
    return image[top : top + new_height, left : left + new_width], boxes, labels[kept]


def _random_start(length: int, new_length: int, inside: float | None, rng: np.random.Generator) -> int:
    """A whole start of an interval of `new_length` within 0..`length` that contains the point `inside`."""
    low, high = 0, length - new_length
    if inside is not None:
        low, high = max(low, int(np.ceil(inside)) - new_length), min(high, int(inside))
    return int(rng.integers(low, high + 1))


def jitter_color(image: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast, saturation and hue by random amounts, in random order.

    The amounts lie within `config.brightness` and so on of unchanged; they are drawn from `rng` and not by
    albumentations, whose generators carry state from picture to picture.

    Args:
        image: [H, W, 3] uint8 RGB.

    Returns:
        [H, W, 3] uint8 RGB; `image` is not changed.
    """
    # Unless told not to, albumentations asks a package index for newer versions whenever it is imported.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations  # here, because it takes a second and the default recipes do without it

    factors = {
        name: rng.uniform(max(0.0, 1 - amount), 1 + amount)
        for name, amount in (
            ("brightness", config.brightness),
            ("contrast", config.contrast),
            ("saturation", config.saturation),
        )
    }
    hue = rng.uniform(-config.hue, config.hue)
    order = rng.permutation(4).tolist()
    jitter = albumentations.ColorJitter(p=1.0)
    return np.asarray(jitter.apply(np.ascontiguousarray(image), **factors, hue=hue, order=order))
