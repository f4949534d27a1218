"""Pictures with more than 8 bits a channel: their values, and how these become 8 bits."""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import cv2
import numpy as np
from PIL import Image

log = logging.getLogger(__name__)

DEPTHS = (8, 10, 12, 14, 16)  # what cameras, scanners and microscopes store in 16 bits

# The share of values that may lie above a depth that is guessed: a hot pixel must not make a picture dark.
_OUTLIERS = 0.001

_BITS_PER_SAMPLE = 258  # a tag of TIFF
_SIZE_OF_JPEG2000 = b"\xff\x4f\xff\x51"  # how a codestream begins: SOC, and SIZ with the size
_DEPTH_OF_JPEG2000 = 42  # bytes from there to the depth of the first component, less one


def to_eight_bits(values: np.ndarray, bit_depth: int | None) -> np.ndarray:
    """Values of 16 bits, gray or colour, as uint8: the upper 8 of the bits in use. What lies above these becomes 255.

    Args:
        values: whole numbers from 0 to 65535, in any shape.
        bit_depth: how many bits are in use, 8 to 16. None guesses it from these values, with a warning: the pictures of
            a set then need not have the same brightness.
    """
    if bit_depth is None:
        bit_depth = used_depth(values)
        if bit_depth > 8:
            _warn_of_guess()
    return np.minimum(values >> (bit_depth - 8), 255).astype(np.uint8)


def used_depth(values: np.ndarray) -> int:
    """The smallest of `DEPTHS`, in bits, that holds the values (whole numbers, any shape) but for a few outliers."""
    last = values.size - 1 - int(values.size * _OUTLIERS)
    largest = int(np.partition(values, last, axis=None)[last])
    return min(bits for bits in DEPTHS if bits >= largest.bit_length())


@cache
def _warn_of_guess() -> None:
    """Warn once per process: the hundredth line would say no more than the first."""
    log.warning(
        "pictures of 16 bits a channel: how many of these are in use is guessed for each picture, so that brightness "
        "may differ between them; set input.bit_depth (8 to 16)."
    )


def is_scaled(image: Image.Image) -> bool:
    """Whether a file, opened and not yet decoded, states its largest value: Pillow then scales it to the full range."""
    return image.format == "PPM" and _decoder(image)[0] == "ppm"


def is_wide_color(image: Image.Image, data: bytes) -> bool:
    """Whether a file, opened and not yet decoded, has colours (or gray and alpha) of 16 bits.

    Pillow keeps the upper 8 of these, which are dark or black where only the lower ones are in use.
    """
    if image.mode not in ("RGB", "RGBA", "LA"):
        return False
    if image.format == "PNG":
        return data[24:25] == b"\x10"  # the bit depth in IHDR, which stands first
    if image.format == "TIFF":
        bits: Any = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))
        return max(bits) > 8
    if image.format == "PPM":
        decoder, arguments = _decoder(image)
        return decoder == "ppm" and bool(arguments[1] == 65535)
    if image.format == "JPEG2000":  # of a depth in between Pillow keeps the upper 8 of the bits that are stated
        start = data.find(_SIZE_OF_JPEG2000)
        return start >= 0 and data[start + _DEPTH_OF_JPEG2000 : start + _DEPTH_OF_JPEG2000 + 1] == b"\x0f"
    return False


def _decoder(image: Image.Image) -> tuple[str, Any]:
    """The name of the decoder that will be used, and its arguments: for "ppm" the mode and the largest value."""
    tile: Any = getattr(image, "tile", None)
    return (tile[0][0], tile[0][3]) if tile else ("", None)


def wide_color(data: bytes, upper: np.ndarray, turn: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """[H, W, 3] uint16 RGB, upright: the values of a file with colours of 16 bits.

    Args:
        data: the file.
        upper: [H, W, 3] uint8, what Pillow makes of it, upright. What OpenCV reads is believed where its upper bits are
            these; else these are all there is.
        turn: makes pixels upright; which formats OpenCV turns itself depends on its version.
    """
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is not None and values.dtype == np.uint16 and values.ndim == 3 and values.shape[2] >= 3:
        colors: np.ndarray = values[..., 2::-1]
        for candidate in (colors, turn(colors)):
            if candidate.shape == upper.shape:
                # Pillow rounds in some formats, and in JPEG2000 it lets what is beyond white begin at black again.
                difference = ((candidate >> 8) - upper).astype(np.uint8)
                if np.minimum(difference, -difference).max(initial=0) <= 1:
                    return np.ascontiguousarray(candidate)
    return upper.astype(np.uint16) << 8
