"""A part of a picture with what is around it, enlarged to a small picture of its own."""

from dataclasses import dataclass

import cv2
import numpy as np

AROUND = 0.6  # of the box's longest edge, shown on each side of it
LEAST_AROUND = 12  # pixels of the file
_LETTERS = 24  # of a file's name


@dataclass(frozen=True)
class CloseUp:
    """A part of a picture.

    pixels: [H, W, 3] uint8 RGB, `scale` times as large as in the picture. left, top: where it begins there, in pixels.
    """

    pixels: np.ndarray
    left: int
    top: int
    scale: float

    def place(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes [B, 4] xyxy of the whole picture in pixels of this one."""
        return np.asarray((boxes - [self.left, self.top, self.left, self.top]) * self.scale)


def close_up(image: np.ndarray, box: np.ndarray, edge: int) -> CloseUp:
    """What lies in and around a box, its longest edge being `edge` pixels.

    Args:
        image: [H, W, 3] uint8 RGB.
        box: [4] xyxy, pixels of `image`; what of it lies outside is not shown.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = box.tolist()
    around = max(LEAST_AROUND, AROUND * max(x2 - x1, y2 - y1))
    left, top = (min(max(0, int(low - around)), most - 1) for low, most in ((x1, width), (y1, height)))
    right, bottom = max(left, int(x2 + around)) + 1, max(top, int(y2 + around)) + 1
    part = image[top:bottom, left:right]
    scale = edge / max(part.shape[:2])
    size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
    pixels = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    return CloseUp(pixels, left, top, scale)


def short_name(name: str, letters: int = _LETTERS) -> str:
    """A file's name without its folders, cut at its start: names of one set differ at their ends."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return last if len(last) <= letters else f"…{last[1 - letters :]}"
