"""The pictures that are measured on: one photograph of the user's, or a rendered one that is the same everywhere."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from detector.datasets.pictures.read import read_image
from detector.datasets.shapes import paint
from detector.datasets.shapes.draws import Draws
from detector.structures import ImageBatch, Size

SEED = 7  # of the rendered picture


def load_picture(path: Path | None, size: Size) -> np.ndarray:
    """[H, W, 3] uint8 RGB of this size: a file's, or where there is none a rendered background full of clutter.

    Raises:
        UserError: the file cannot be read.
    """
    if path is None:
        draws = Draws(SEED)
        return paint.camera(draws, paint.background(draws, size))
    image = Image.fromarray(read_image(path))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def variants(picture: np.ndarray, count: int) -> Tensor:
    """[N, 3, H, W] uint8: the picture, and others made of it by moving its content around."""
    step = picture.shape[1] // (count + 1)
    moved = [np.roll(picture, step * i, axis=1) for i in range(count)]
    return torch.from_numpy(np.stack(moved).transpose(0, 3, 1, 2).copy())


def as_batch(pixels: Tensor, multiple: int) -> ImageBatch:
    """Network input; pixels: [N, 3, H, W]. Padded as `multiple` says."""
    height, width = pixels.shape[2:]
    padded = F.pad(pixels, (0, -width % multiple, 0, -height % multiple))
    sizes = [(height, width)] * len(pixels)
    return ImageBatch(padded, sizes, sizes, list(range(len(pixels))))


def smaller(pixels: Tensor) -> Tensor:
    """[3, H, W] uint8 to one of a quarter of its sides, for calibrating weights."""
    size = [max(side // 4, 64) for side in pixels.shape[1:]]
    return F.interpolate(pixels[None].float(), size=size, mode="area")[0].to(torch.uint8)
