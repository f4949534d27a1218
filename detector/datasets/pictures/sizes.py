"""The size that a picture is given for the network: arithmetic alone, for those who open no picture."""

import math
from typing import Literal

from detector.structures import Size

ResizeKind = Literal["pil", "torchvision", "cv2"]


def resized_size(size: Size, min_size: int, max_size: int, how: ResizeKind) -> Size:
    """The size that brings the shortest edge to `min_size` and the longest to at most `max_size`.

    All lineages compute in float64; "pil" (detectron2) and "cv2" (mmdetection) round halves up, "torchvision" rounds
    down. They differ in the last bit of the scale too, which decides where a half is met.

    Args:
        size: (height, width) of the original image.
        min_size: wanted shortest edge; 0 leaves the size as it is.
        max_size: limit of the longest edge, which may leave the shortest below `min_size`.
        how: whose rounding.

    Returns:
        (height, width) of the input image, at least 1 each.
    """
    height, width = size
    if min_size == 0:
        return size
    if how == "torchvision":
        scale = min(min_size / min(size), max_size / max(size))
        return max(1, math.floor(height * scale)), max(1, math.floor(width * scale))
    if how == "cv2":
        scale = min(max_size / max(size), min_size / min(size))
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
    scale = min_size / min(size)
    new_height, new_width = (min_size, scale * width) if height < width else (scale * height, min_size)
    longest = max(new_height, new_width)
    if longest > max_size:
        scale = max_size / longest
        new_height, new_width = new_height * scale, new_width * scale
    return max(1, int(new_height + 0.5)), max(1, int(new_width + 0.5))
