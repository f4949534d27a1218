"""Pictures read window by window: from the file where its rows lie there as they are, else from one decoded copy."""

import io
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from PIL import ExifTags

from detector.datasets.pictures.read import ImageError, open_stream, opened, read_image
from detector.structures import Size

ROWS_AT_ONCE = 512  # of the original image, while it is made smaller


class Window(NamedTuple):
    """A part of a picture, in pixels of the original image."""

    top: int
    left: int
    height: int
    width: int


class Windows(Protocol):
    """A picture of which parts can be read."""

    @property
    def size(self) -> Size:
        """(height, width) of the original image."""

    def read(self, window: Window) -> np.ndarray:
        """A part as [height, width, 3] uint8 RGB, contiguous."""

    def reduced(self, longest: int) -> np.ndarray:
        """The whole picture as [H, W, 3] uint8 RGB, smaller by a whole factor if it can keep `longest` pixels."""


class DecodedWindows:
    """Windows of a picture that is in memory.

    Args:
        pixels: [H, W, 3] uint8 RGB.
    """

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    @property
    def size(self) -> Size:
        """(height, width)."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def read(self, window: Window) -> np.ndarray:
        """A part as [height, width, 3] uint8 RGB; the whole is not copied."""
        top, left, height, width = window
        return np.ascontiguousarray(self.pixels[top : top + height, left : left + width])

    def reduced(self, longest: int) -> np.ndarray:
        """The picture itself, or where that is far larger than is needed a smaller one."""
        return reduce_by(self, shrink_factor(self.size, longest))


class MappedWindows:
    """Windows of a file whose rows of pixels are stored as they are; only what a window holds is read.

    Args:
        path: the file.
        size: (height, width).
        rows: where in the file each row begins, in bytes.
        channels: of a pixel, one byte each: 1 or 3.
        is_bgr: whether blue comes first.
    """

    def __init__(self, path: Path, size: Size, rows: np.ndarray, channels: int, is_bgr: bool) -> None:
        self.path = path
        self.size = size
        self.rows = rows
        self.channels = channels
        self.is_bgr = is_bgr

    def read(self, window: Window) -> np.ndarray:
        """A part as [height, width, 3] uint8 RGB. Raises ImageError where the file is gone or has become shorter."""
        top, left, height, width = window
        part = np.empty((height, width, self.channels), np.uint8)
        try:
            with open(self.path, "rb") as file:
                for row in range(height):
                    file.seek(int(self.rows[top + row]) + left * self.channels)
                    if file.readinto(part[row].reshape(-1).data) < width * self.channels:
                        raise ImageError(f"{self.path}: became shorter while it was read; start again.")
        except OSError as error:
            raise ImageError(f"{self.path}: could not be read to its end ({error.strerror}); start again.") from error
        if self.channels == 1:
            return np.repeat(part, 3, axis=2)
        return np.ascontiguousarray(part[..., ::-1]) if self.is_bgr else part

    def reduced(self, longest: int) -> np.ndarray:
        """The whole picture, where it is far larger than is needed a smaller one, made strip by strip."""
        return reduce_by(self, shrink_factor(self.size, longest))


def open_windows(source: str | Path | bytes, max_pixels: int, bit_depth: int | None = None) -> Windows:
    """A picture of which windows can be read.

    Args:
        source: a path, or the bytes of a file.
        max_pixels: of a picture that must be decoded whole, which takes three bytes a pixel; uncompressed BMP, PPM and
            TIFF need not be.
        bit_depth: see `read_image`.

    Raises:
        ImageError: as `read_image`.
    """
    if isinstance(source, (str, Path)) and (mapped := _mapped(Path(source))) is not None:
        return mapped
    return DecodedWindows(read_image(source, max_pixels, bit_depth))


def reduce_by(picture: Windows, factor: int) -> np.ndarray:
    """The whole picture with edges of a `factor`-th of its own, averaged strip by strip; at 1 as it is."""
    height, width = picture.size
    if factor == 1:
        return picture.read(Window(0, 0, height, width))
    strips = []
    step = factor * max(1, ROWS_AT_ONCE // factor)
    for top in range(0, height, step):
        strip = picture.read(Window(top, 0, min(step, height - top), width))
        smaller = (max(1, round(width / factor)), max(1, round(strip.shape[0] / factor)))
        strips.append(cv2.resize(strip, smaller, interpolation=cv2.INTER_AREA))
    return np.concatenate(strips)


def shrink_factor(size: Size, longest: int) -> int:
    """The largest whole number by which a picture can shrink and keep `longest` pixels along its longest edge."""
    return max(1, max(size) // longest)


def _mapped(path: Path) -> MappedWindows | None:
    """The windows of a file that holds plain rows of 8-bit gray or RGB pixels, upright; None for any other."""
    try:
        with open_stream(path) as stream, opened(stream, str(path), None) as image:
            if image.mode not in ("RGB", "L") or image.format not in ("BMP", "DIB", "PPM", "TIFF"):
                return None
            if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                return None
            width, height = image.size
            channels = len(image.getbands())
            rows = np.full(height, -1, np.int64)
            order = ""
            for codec, (left, top, right, bottom), offset, arguments in getattr(
                image, "tile", ()
            ):  # as a file's image has, whose type Pillow does not tell
                order, stride, direction = _as_triple(arguments)
                if codec != "raw" or order not in ("RGB", "BGR", "L") or (left, right) != (0, width):
                    return None
                starts = offset + np.arange(bottom - top) * (stride or width * channels)
                rows[top:bottom] = starts if direction > 0 else starts[::-1]
            end = stream.seek(0, io.SEEK_END)
    except ImageError:
        return None  # which reading it as a whole says more about
    if rows.min() < 0 or rows.max() + width * channels > end:  # a row is missing, or not in the file
        return None
    return MappedWindows(path, (height, width), rows, channels, order == "BGR")


def _as_triple(arguments: object) -> tuple[str, int, int]:
    """What Pillow tells a decoder: the order of a pixel's bytes, bytes a row (0: no gaps), direction of the rows."""
    given: tuple[Any, ...] = arguments if isinstance(arguments, tuple) else (arguments,)
    order, stride, direction = (*given, *("", 0, 1)[len(given) :])[:3]
    return str(order), int(stride), int(direction)
