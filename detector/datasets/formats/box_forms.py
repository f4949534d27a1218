"""Boxes that are written in another form than [x, y, width, height] in pixels, as far as their numbers give it away."""

import numpy as np

from detector.datasets.columns import Columns

_FEWEST = 3  # boxes, of which all agreeing is no chance
_OUTSIDE, _SHARE = 0.02, 0.2  # of a picture's edge, and of the boxes


def are_fractions(columns: Columns) -> bool:
    """Whether all boxes are written in fractions of their pictures: nothing in a set of pixels is so small."""
    boxes = columns.boxes[columns.readable]
    sizes = columns.sizes[columns.owners[columns.owners >= 0]]
    if len(boxes) == 0 or not (boxes >= 0).all() or not (boxes <= 1).all() or (sizes == 1).any():
        return False
    return bool((boxes % 1 != 0).any(axis=1).mean() > 0.5)


def look_like_corners(columns: Columns, by_centre: bool = False) -> bool:
    """Whether boxes seem to be [x1, y1, x2, y2].

    As such all would lie in their pictures, and as they are read many reach far over the edge. Boxes of pictures of
    unknown size tell nothing.

    Args:
        by_centre: they were read as centre, width and height, as YOLO's are, and not as corner, width and height.
    """
    sizes = columns.sizes_of_boxes()
    is_known = columns.readable & (sizes > 0).all(axis=1)
    boxes = columns.boxes[is_known]
    limits = sizes[is_known][:, ::-1]  # (width, height)
    if len(boxes) < _FEWEST or not np.isfinite(boxes).all():
        return False
    corner, extent = boxes[:, :2], boxes[:, 2:]
    low, high = (corner + extent / 2 if by_centre else corner), extent
    fits = (low >= 0).all() and (high > low).all() and (high <= limits + 0.5).all()
    if not fits:
        return False
    slack = limits * _OUTSIDE
    reaches_over = ((corner < -slack) | (corner + extent > limits + slack)).any(axis=1)
    return bool(reaches_over.mean() >= _SHARE)
