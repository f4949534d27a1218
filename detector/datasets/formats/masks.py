"""Bounds of COCO segmentations: a box where an annotation has none, and a check of the one it has."""

import math
import re
from typing import Any

from pycocotools import mask as rle

# Rounding, and objects that are partly hidden, move box and mask apart a little; boxes in the wrong form are elsewhere.
LEAST_IOU = 0.5

# Numbers in base 32: digits that say "more follow", and one that does not. pycocotools reads past the end of others.
_PACKED_COUNTS = re.compile(r"([P-o]{0,6}[0-O])*")


def mask_bounds(mask: Any, box: Any) -> list[float] | None:
    """The bounds of a segmentation as [x, y, width, height], where its annotation has no box, or one elsewhere.

    Args:
        mask: a list of polygons [x1, y1, x2, y2, …], or run lengths as COCO writes them.
        box: the annotation's `bbox`, which may be anything.

    Returns:
        None where the box and the segmentation agree, or the segmentation is not understood.
    """
    try:
        if isinstance(mask, list):
            if not isinstance(mask[0], list):
                return None
            if len(mask) == 1:
                low_x, low_y, high_x, high_y = _polygon(mask[0])
            else:
                corners = [_polygon(polygon) for polygon in mask if polygon]
                low_x, low_y = min(c[0] for c in corners), min(c[1] for c in corners)
                high_x, high_y = max(c[2] for c in corners), max(c[3] for c in corners)
        else:
            if box:  # decoding run lengths takes a hundred times longer than to look at a polygon
                return None
            low_x, low_y, high_x, high_y = _run_lengths(mask)
        if box and _agree(box, low_x, low_y, high_x, high_y):
            return None
        bounds = [low_x, low_y, high_x - low_x, high_y - low_y]
        return bounds if all(map(math.isfinite, bounds)) and min(bounds[2:]) > 0 else None
    except (TypeError, ValueError, IndexError, KeyError, OverflowError, AttributeError):
        return None  # a mask that is not understood says nothing about its box


def _polygon(polygon: list[float]) -> tuple[float, float, float, float]:
    xs, ys = polygon[::2], polygon[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def _run_lengths(mask: Any) -> tuple[float, float, float, float]:
    height, width = (int(edge) for edge in mask["size"])
    if not 0 < height * width < 2**31:
        raise ValueError
    counts = mask["counts"]
    if isinstance(counts, list):
        if min(counts) < 0 or sum(counts) != height * width:
            raise ValueError
        packed = rle.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    else:
        if not _PACKED_COUNTS.fullmatch(counts):
            raise ValueError
        packed = {"size": [height, width], "counts": counts.encode("ascii")}
    x, y, w, h = rle.toBbox(packed).tolist()
    return x, y, x + w, y + h


def _agree(box: Any, low_x: float, low_y: float, high_x: float, high_y: float) -> bool:
    """Whether box and bounds share enough; a box that is no box is another fault."""
    x, y, width, height = box
    shared_x = min(x + width, high_x) - max(x, low_x)
    shared_y = min(y + height, high_y) - max(y, low_y)
    if shared_x <= 0 or shared_y <= 0:
        # Thin things have bounds without area; a pixel of distance is rounding.
        return width <= 0 or height <= 0 or (shared_x > -1 and shared_y > -1)
    shared = shared_x * shared_y
    return bool(shared >= LEAST_IOU * (width * height + (high_x - low_x) * (high_y - low_y) - shared))
