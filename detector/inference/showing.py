"""A picture with its detections, for people: in a file, in a notebook, on the screen; and cut into its objects."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageShow
from torch import Tensor

from detector.disk import write_atomically
from detector.errors import UserError

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
LONGEST = {"JPEG": 65500, "WEBP": 16383}  # pixels of a side that these formats hold
NOTEBOOK_EDGE = 1600  # pixels: what a notebook keeps for ever need not be larger than a screen


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write an [H, W, 3] uint8 RGB picture, whole or not at all; its suffix says the format.

    Raises:
        UserError: the suffix is another one, the picture is too large for the format, or the file cannot be written.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"{path}: a picture is written as {', '.join(FORMATS)}; choose one of these suffixes.")
    if not fits(picture, kind):
        height, width = picture.shape[:2]
        raise UserError(
            f"{path}: {width} × {height} pixels are more than {kind} holds ({LONGEST[kind]} a side); write a .png."
        )
    write_atomically(path, encode(picture, kind))


def fits(picture: np.ndarray, kind: str) -> bool:
    """Whether Pillow's format `kind` holds a picture [H, W, 3] of this size."""
    return kind not in LONGEST or max(picture.shape[:2]) <= LONGEST[kind]


def encode(picture: np.ndarray, kind: str) -> bytes:
    """An [H, W, 3] uint8 RGB picture as the bytes of a file of Pillow's format `kind`."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, kind, quality=92)
    return stream.getvalue()


def notebook_png(picture: np.ndarray) -> bytes:
    """An [H, W, 3] uint8 RGB picture as a PNG for a notebook, shrunk to a screen's size where it is larger."""
    scale = min(1.0, NOTEBOOK_EDGE / max(picture.shape[:2]))
    if scale < 1:
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return encode(picture, "PNG")


def show_picture(picture: np.ndarray) -> None:
    """Show an [H, W, 3] uint8 RGB picture: in the notebook that this runs in, or in the system's program for pictures.

    Raises:
        UserError: there is no such program.
    """
    try:
        from IPython import display, get_ipython
    except ImportError:
        in_notebook = False
    else:
        in_notebook = getattr(get_ipython(), "kernel", None) is not None
    if in_notebook:
        display.display(display.Image(notebook_png(picture)))
    elif not ImageShow.show(Image.fromarray(picture)):
        raise UserError("there is no program here that shows pictures; write it to a file with .save(path).")


def cut_out(picture: np.ndarray, boxes: Tensor, margin: int) -> list[np.ndarray]:
    """The parts of a picture inside boxes, each a copy, at least one pixel wide and high.

    Args:
        picture: [H, W, 3] uint8.
        boxes: [D, 4] xyxy in its pixels.
        margin: pixels around each box, as far as the picture goes.

    Raises:
        UserError: `margin` is below 0.
    """
    if margin < 0:
        raise UserError(f"margin={margin}: choose 0 or more pixels.")
    height, width = picture.shape[:2]
    parts = []
    for x1, y1, x2, y2 in boxes.tolist():
        left = min(max(int(np.floor(x1)) - margin, 0), width - 1)
        top = min(max(int(np.floor(y1)) - margin, 0), height - 1)
        right = max(min(int(np.ceil(x2)) + margin, width), left + 1)
        bottom = max(min(int(np.ceil(y2)) + margin, height), top + 1)
        parts.append(picture[top:bottom, left:right].copy())
    return parts
