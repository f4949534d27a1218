"""Pillow 13's 8-bit bilinear resize, bit for bit: by Pillow when a side shrinks, in a third of the time otherwise.

Pillow resizes along x, rounds to 8 bits, then resizes along y; from version 13 on first along y where that takes away
much of a picture (its pull request 9549). What is here does so with every version.

A pixel of an enlarged line is a·w0 + b·w1 of two neighbours a and b, with the weights rounded to 22 bits and halves
rounded up. OpenCV's `addWeighted` computes the same sum of whole lines in float32 and rounds halves to even. The two
agree when every weight is moved, by less than any rounding can notice, to the side on which Pillow's own rounding of it
breaks ties; `_taps` has the argument.
"""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from detector.structures import Size

# Beyond this length the float32 rounding of addWeighted (below 4.6e-5) could exceed the margin of 1 / (4 length).
_MAX_LENGTH = 4096

_PILLOW_BITS = 22  # of a weight; PRECISION_BITS of Pillow's Resample.c


class Tap(NamedTuple):
    """One pixel of an enlarged line: round(first_weight·line[first] + second_weight·line[second] + offset)."""

    first: int
    second: int
    first_weight: float
    second_weight: float
    offset: float


def resize_like_pil(image: np.ndarray, size: Size) -> np.ndarray:
    """Resize as `Image.resize(..., BILINEAR)` does, antialiased when a side shrinks.

    Args:
        image: [H, W, 3] uint8.
        size: (height, width) wanted.

    Returns:
        [height, width, 3] uint8, equal to Pillow 13's. It may be a view of memory in the order row, channel, column.
    """
    height, width = size
    if image.shape[:2] == size:
        return image
    if height < image.shape[0] or width < image.shape[1] or max(size) > _MAX_LENGTH:
        picture = Image.fromarray(image)
        if image.shape[0] - height > 2 * max(0, image.shape[1] - width):
            picture = picture.resize((image.shape[1], height), Image.Resampling.BILINEAR)
        return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    return _enlarge(image, height, width)


def _enlarge(image: np.ndarray, height: int, width: int) -> np.ndarray:
    old_height, old_width = image.shape[:2]
    # Whole lines are combined, so columns are laid out as lines first: [old_width, 3, old_height].
    columns = np.empty((old_width, 3, old_height), np.uint8)
    for channel, plane in enumerate(cv2.split(image)):
        cv2.transpose(plane, columns[:, channel])
    columns = _enlarge_lines(columns, width)
    rows = np.empty((old_height, 3, width), np.uint8)
    for channel in range(3):
        cv2.transpose(columns[:, channel], rows[:, channel])
    return _enlarge_lines(rows, height).transpose(0, 2, 1)


def _enlarge_lines(lines: np.ndarray, length: int) -> np.ndarray:
    """[L, 3, M] uint8 lines → [length, 3, M], each a weighted sum of two."""
    if lines.shape[0] == length:
        return lines
    result = np.empty((length, *lines.shape[1:]), np.uint8)
    sources = list(lines.reshape(lines.shape[0], -1))
    targets = result.reshape(length, -1)
    for target, tap in zip(targets, _taps(lines.shape[0], length), strict=True):
        first, second, first_weight, second_weight, offset = tap
        cv2.addWeighted(sources[first], first_weight, sources[second], second_weight, offset, target)
    return result


@lru_cache(maxsize=1024)
def _taps(old: int, new: int) -> tuple[Tap, ...]:
    """The taps that enlarge a line of `old` pixels to `new` as Pillow does, `old <= new <= _MAX_LENGTH`.

    Pixel x of the new line lies at c = ((2x + 1)·old − new) / (2·new) between old pixels m = floor(c) and m + 1; with
    f = c − m = p/q in lowest terms, Pillow computes a + d·f for d = b − a in −255..255, f rounded to 22 bits. Every
    d·f is a multiple of 1/q, so it lies

    - at q odd, at least 1/(2q) from a half: rounding needs no care;
    - at q even, on a half (only if |d| ≥ q/2) or at least 1/q from it. On a half the side is decided by the rounding
      error e of f: up where d·e ≥ 0. Where e is not 0, f is moved by 1/(512q) to the side of e, which moves a tie by at
      least 1/1024 and anything by less than 1/(2q); where it is 0, the sum is moved up by 1/(2q).

    As q ≤ 2·new, no value is left nearer than 1/(4·new) to a half, while the float32 sum errs by less than 4.6e-5.
    """
    x = np.arange(new, dtype=np.int64)
    position = (2 * x + 1) * old - new  # in units of 1 / (2·new)
    first = np.clip(position // (2 * new), 0, old - 1)
    second = np.minimum(first + 1, old - 1)
    # Before the first and behind the last old pixel, Pillow has one tap of weight 1.
    numerator = np.where((position < 0) | (first == second), 0, position - first * 2 * new)
    denominator = 2 * new // np.gcd(numerator, 2 * new)
    fraction = numerator / (2 * new)

    rounded = ((numerator << _PILLOW_BITS) + new) // (2 * new)
    error_sign = np.sign(rounded * 2 * new - (numerator << _PILLOW_BITS))
    has_ties = denominator % 2 == 0
    weight = fraction + np.where(has_ties, error_sign / (512 * denominator), 0.0)
    offset = np.where(has_ties & (error_sign == 0), 0.5 / denominator, 0.0)
    columns = (first, second, 1.0 - weight, weight, offset)
    return tuple(Tap(*values) for values in zip(*(column.tolist() for column in columns), strict=True))
