"""Files of several pages or frames: the first is the picture, and that is said."""

import io
import logging
from functools import cache, lru_cache

from PIL import Image

log = logging.getLogger(__name__)

_ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
_SUBFILE_TYPE = 254  # a tag of TIFF; its lowest bit is set for a smaller copy of another page


def say_if_pages_are_left_out(tiff: bytes) -> None:
    """Warn, once a process, of a TIFF file with a second page that is no smaller copy of the first."""
    if _warn.cache_info().currsize == 0 and _has_another_page(tiff):
        _warn()


def say_if_frames_are_left_out(image: Image.Image, name: str) -> None:
    """Warn, once a process, of an animation.

    Args:
        image: as it was opened.
        name: of it, for the message.
    """
    # Not of MPO, whose other pictures are views of the same scene, and smaller ones.
    if (
        _warn_of_frames.cache_info().currsize == 0
        and image.format in _ANIMATED
        and getattr(image, "is_animated", False)
    ):
        _warn_of_frames(name)


def _has_another_page(tiff: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(tiff), formats=("TIFF",)) as image:
            image.seek(1)
            subfile_type = getattr(image, "tag_v2", {}).get(_SUBFILE_TYPE, 0)
    except Exception:  # the end of the file; or whatever a broken second page provokes, where the first may be good
        return False
    return not (isinstance(subfile_type, int) and subfile_type & 1)


@cache
def _warn() -> None:
    log.warning(
        "a TIFF has several pages, of which the first is read; make each page a file of its own to have the others."
    )


@lru_cache(maxsize=1)
def _warn_of_frames(name: str) -> None:
    log.warning(
        "%s: is an animation, of which the first frame is read, as of all others; make it a video to have the rest.",
        name,
    )
