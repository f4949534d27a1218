"""Which way up a picture is, by its EXIF, and turning it upright."""

import io
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image

# EXIF orientations whose upright picture has width and height exchanged.
SIDEWAYS = (5, 6, 7, 8)


def orientation_of(image: Image.Image, has_late_metadata: bool) -> int:
    """EXIF orientation 1..8; what is malformed or not legal counts as 1.

    Args:
        image: as Pillow has opened it.
        has_late_metadata: look behind the pixels of a PNG file too, for which Pillow decodes it.
    """
    try:
        # PngImageFile.getexif decodes the whole picture in search of metadata behind it.
        exif = image.getexif() if has_late_metadata else Image.Image.getexif(image)
        value = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:  # a malformed block raises many things, and the pixels are still good
        return 1
    return value if value in range(1, 9) else 1


def metadata_is_late(stream: BinaryIO) -> bool:
    """Whether a PNG file has EXIF or text chunks after its pixel data. The stream's position is kept."""
    position = stream.tell()
    stream.seek(8)
    seen_pixels, late = False, False
    while not late and len(header := stream.read(8)) == 8:
        length, kind = int.from_bytes(header[:4], "big"), header[4:]
        late = seen_pixels and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
        seen_pixels = seen_pixels or kind == b"IDAT"
        stream.seek(length + 4, io.SEEK_CUR)
    stream.seek(position)
    return late


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation of [H, W, 3] pixels; 5..8 exchange height and width."""
    if orientation in SIDEWAYS:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
