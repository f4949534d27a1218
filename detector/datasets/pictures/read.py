"""Pictures from files or bytes to upright RGB, and their sizes from the header alone."""

import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from detector.datasets.pictures.orientation import SIDEWAYS, metadata_is_late, orientation_of, turn_upright
from detector.datasets.pictures.pages import say_if_frames_are_left_out, say_if_pages_are_left_out
from detector.datasets.pictures.suffixes import readable_formats
from detector.datasets.pictures.video_content import HEAD, begins_as_video
from detector.datasets.pictures.wide import is_scaled, is_wide_color, to_eight_bits, used_depth, wide_color
from detector.errors import UserError
from detector.structures import Size

# A picture of this many pixels takes 0.27 GB decoded. It is Pillow's own limit, a quarter of a gigabyte of RGB.
MAX_PIXELS = 89_478_485

# No format needs more bytes a pixel uncompressed (four channels of 32 bits), nor more beside the pixels.
_BYTES_A_PIXEL = 16
_BYTES_BESIDE = 2**24

# Files that look like pictures to people.
_NOT_READ = (
    (b"ftyphei", "a HEIC picture, as phones take them"),
    (b"ftyphev", "a HEIC picture, as phones take them"),
    (b"ftypmif1", "a HEIF picture"),
    (b"ftypavi", "an AVIF picture, which this Pillow does not read"),
    (b"ftypcrx ", "a camera's raw picture"),
    (b"II*\0", "a TIFF of numbers that are not read (floating-point ones, or a camera's), or damaged"),
    (b"MM\0*", "a TIFF of numbers that are not read (floating-point ones, or a camera's), or damaged"),
    (b"8BPS", "a Photoshop file"),
    (b"%PDF", "a PDF"),
    (b"<svg", "an SVG drawing"),
)

# Pixels that are copied at once out of a decoded picture.
_COPIED_PIXELS = 2**22

# Pillow's limit belongs to the whole process; whoever lifts it for a moment holds this.
_PILLOW_LIMIT = threading.Lock()


class ImageError(UserError):
    """A picture is missing, too large, or cannot be decoded. The message names the file and the remedy."""


def read_image(source: str | Path | bytes, max_pixels: int = MAX_PIXELS, bit_depth: int | None = None) -> np.ndarray:
    """Decode a picture and turn it upright.

    Pixels equal Pillow's `exif_transpose` followed by `convert("RGB")`: gray becomes three equal channels, palettes are
    expanded, alpha is dropped without blending (the lineage of the published weights). The first frame is taken of an
    animation, and the first page of a TIFF. Pictures of 16 bits a channel are the exception, gray and colour alike:
    Pillow would saturate or darken them, and here the upper 8 of the bits in use are kept. Illegal orientations and
    malformed EXIF count as upright.

    Args:
        source: a path, or the bytes of a file; the format is told by the content, not by the name.
        max_pixels: larger pictures are refused from their header, before anything is decoded; so are files of more
            bytes than pictures of that size need.
        bit_depth: how many of 16 bits are in use, since cameras and microscopes store 10 to 14 bits that way. None
            guesses it for each picture, with a warning.

    Returns:
        [H, W, 3] uint8 RGB, the original image, contiguous.

    Raises:
        ImageError: the file is missing, no picture, truncated, or larger than `max_pixels`.
    """
    name, data = _name(source), _read_bytes(source, max_pixels)
    with opened(io.BytesIO(data), name, max_pixels) as image:
        if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
            # The same libjpeg and the same pixels as Pillow's, in half the time. It returns None where Pillow can say
            # what is wrong, so that path reports the error.
            flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
            if pixels is not None:
                return turn_upright(pixels, orientation_of(image, has_late_metadata=False))
        if image.format == "TIFF":
            say_if_pages_are_left_out(data)
        else:
            say_if_frames_are_left_out(image, name)
        values = _values(image, name, data)
    # Out of the block, which hides warnings.
    return values if values.dtype == np.uint8 else _rgb(to_eight_bits(values, bit_depth))


def depth_in_use(source: str | Path | bytes, max_pixels: int = MAX_PIXELS) -> int | None:
    """How many bits a picture of 16 bits a channel seems to use; None for one of 8, which is not decoded.

    Raises:
        ImageError: as `read_image`.
    """
    name = _name(source)
    with open_stream(source) as stream, opened(stream, name, max_pixels) as image:
        if image.mode in ("RGB", "L", "P", "1") and image.format not in ("PNG", "TIFF", "PPM", "JPEG2000"):
            return None
    data = _read_bytes(source, max_pixels)
    with opened(io.BytesIO(data), name, max_pixels) as image:
        if not (image.mode.startswith("I") or is_wide_color(image, data)) or is_scaled(image):
            return None
        return used_depth(_values(image, name, data))


def from_pil(image: Image.Image, name: str = "the given picture", bit_depth: int | None = None) -> np.ndarray:
    """An opened Pillow image as `read_image` returns it: upright [H, W, 3] uint8 RGB.

    Of colours of 16 bits Pillow has kept the upper 8; `read_image` knows the others.

    Raises:
        ImageError: pixels are floating-point numbers, or there are none. What Pillow raises while decoding passes.
    """
    values = _values(image, name)
    return values if values.dtype == np.uint8 else _rgb(to_eight_bits(values, bit_depth))


def _values(image: Image.Image, name: str, data: bytes | None = None) -> np.ndarray:
    """Upright pixels: [H, W, 3] uint8, or where the file has 16 bits a channel [H, W] or [H, W, 3] uint16."""
    scaled = is_scaled(image)
    wide = data is not None and is_wide_color(image, data)
    orientation = orientation_of(image, has_late_metadata=True) if wide else 1
    if data is None:
        upright = ImageOps.exif_transpose(image)
    else:  # our own, and copies of large pictures take much memory
        ImageOps.exif_transpose(image, in_place=True)
        upright = image
    if 0 in upright.size:
        raise ImageError(f"{name}: has no pixels. Replace or remove the picture.")
    if upright.mode == "F":
        raise ImageError(f"{name}: a picture of floating-point numbers has no set range. Convert it to 8 bits.")
    if upright.mode.startswith("I"):  # I;16, I;16B, I;16L, or I, where older Pillow keeps 16 bits in 32
        values = np.asarray(upright).astype(np.int64).clip(0, 65535).astype(np.uint16)
        return _rgb(to_eight_bits(values, 16)) if scaled else values
    pixels = _as_array(upright if upright.mode == "RGB" else upright.convert("RGB"))
    if not wide:
        return pixels
    assert data is not None
    return wide_color(data, pixels, lambda values: turn_upright(values, orientation))


def _as_array(image: Image.Image) -> np.ndarray:
    """[H, W, 3] uint8 of an RGB image; a large one is copied strip by strip, for Pillow would take three times it."""
    width, height = image.size
    rows = max(1, _COPIED_PIXELS // width)
    if height <= rows:
        return np.array(image)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        pixels[top : top + rows] = np.asarray(image.crop((0, top, width, min(height, top + rows))))
    return pixels


def _rgb(pixels: np.ndarray) -> np.ndarray:
    """[H, W, 3] from [H, W] or [H, W, 3]."""
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def image_size(source: str | Path | bytes) -> Size:
    """(height, width) of the upright picture, from the header alone.

    Raises:
        ImageError: the file is missing or no picture; broken pixel data is not noticed.
    """
    name = _name(source)
    with open_stream(source) as stream, opened(stream, name, None) as image:
        width, height = image.size
        if image.format == "TIFF":  # whose sides Pillow exchanges itself on opening
            return height, width
        late = image.format == "PNG" and metadata_is_late(stream)
        return (width, height) if orientation_of(image, late) in SIDEWAYS else (height, width)


def stored_size(source: str | Path | bytes) -> Size:
    """(height, width) of the picture as stored, before its EXIF orientation; else like `image_size`."""
    name = _name(source)
    with open_stream(source) as stream, opened(stream, name, None) as image:
        width, height = image.size
        # Pillow exchanges the sides of a TIFF itself on opening.
        turned = image.format == "TIFF" and orientation_of(image, has_late_metadata=False) in SIDEWAYS
        return (width, height) if turned else (height, width)


def _name(source: str | Path | bytes) -> str:
    return "the given bytes" if isinstance(source, bytes) else str(source)


def _unreadable(name: str, error: Exception) -> ImageError:
    reason = getattr(error, "strerror", None) or str(error)
    return ImageError(f"{name}: cannot read the picture ({reason}). Check the path and the images folder.")


def open_stream(source: str | Path | bytes) -> BinaryIO:
    """An open file. Pipes, devices and folders are refused before they are opened, which may block for ever."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        if not stat.S_ISREG(os.stat(source).st_mode):
            raise ImageError(
                f"{source}: cannot read the picture (it is a folder, pipe or device, not a file). Check the path."
            )
        return Path(source).open("rb")
    except ImageError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise _unreadable(_name(source), error) from None


def _read_bytes(source: str | Path | bytes, max_pixels: int) -> bytes:
    if isinstance(source, bytes):
        return source
    most = _BYTES_A_PIXEL * max_pixels + _BYTES_BESIDE
    try:
        with open_stream(source) as stream:
            data = stream.read(most + 1)
    except OSError as error:
        raise _unreadable(_name(source), error) from None
    if len(data) > most:
        raise ImageError(
            f"{source}: has more than {most} bytes, more than a picture of {max_pixels} pixels needs. Replace or "
            "remove it, or raise input.max_pixels."
        )
    return data


@contextmanager
def opened(stream: BinaryIO, name: str, max_pixels: int | None) -> Iterator[Image.Image]:
    """A Pillow image whose header was read and whose size is allowed; whatever decoding raises becomes ImageError."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of malformed EXIF and of sizes near its limit; the first is harmless, the second judged here.
            warnings.simplefilter("ignore")
            with _open(stream, max_pixels) as image:
                width, height = image.size
                if max_pixels is not None and width * height > max_pixels:
                    raise ImageError(
                        f"{name}: {width}x{height} pixels are more than the {max_pixels} allowed."
                        " Shrink or tile the picture, or raise input.max_pixels."
                    )
                yield image
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{name}: {_what_it_is(stream)}") from None
    except Exception as error:  # Pillow's parsers raise whatever a broken file provokes: OSError, SyntaxError, KeyError
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name}: cannot be decoded ({reason}). Replace or remove the picture.") from error


def _what_it_is(stream: BinaryIO) -> str:
    """What a file is that is no picture, and the remedy."""
    stream.seek(0)
    head = stream.read(HEAD)
    start = head.lstrip().lower()
    if begins_as_video(head):
        return "is a video in the place of a picture. Take its frames as pictures, or remove it."
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS in the place of the picture. Fetch the files with git lfs pull."
    if start.startswith((b"<!doctype html", b"<html")):
        return "is a web page in the place of a picture. Fetch it again, or remove it."
    for beginning, what in _NOT_READ:
        if head.startswith(beginning, 4 if beginning.startswith(b"ftyp") else 0):
            return f"not a picture of a known format, but {what}. Convert it to JPEG or to PNG of 8 bits, or remove it."
    if not head:
        return "not a picture of a known format, but an empty file. Replace or remove it."
    return "not a picture of a known format. Replace or remove it."


def _open(stream: BinaryIO, max_pixels: int | None) -> Image.Image:
    """Read a header. Pillow refuses more than twice its own limit; the limit here is the caller's."""
    if max_pixels is not None and max_pixels <= MAX_PIXELS:
        try:
            return Image.open(stream, formats=readable_formats())
        except Image.DecompressionBombError:  # whose size the caller will judge
            stream.seek(0)
    with _PILLOW_LIMIT:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(stream, formats=readable_formats())
        finally:
            Image.MAX_IMAGE_PIXELS = before
