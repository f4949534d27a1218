"""The formats of pictures that are read, and the suffixes of their files: the one list that there is."""

from functools import cache

from PIL import Image

# Only raster formats with a decoder inside Pillow; EPS, for one, would start an external interpreter.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "GIF", "PPM", "JPEG2000")

# Registered for formats above, and never readable as a picture: floating-point numbers without a set range.
_NOT_READ = (".pfm",)


@cache
def readable_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this build of Pillow can open; AVIF, for one, is missing from some."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def picture_suffixes() -> tuple[str, ...]:
    """The suffixes of the files that are read, with their dot, in small letters, sorted."""
    readable = {*readable_formats(), "MPO"}  # which the JPEG decoder opens
    return tuple(
        sorted(
            suffix
            for suffix, name in Image.registered_extensions().items()
            if name in readable and suffix not in _NOT_READ
        )
    )
