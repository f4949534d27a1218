"""One line of a YOLO text file."""

from collections.abc import Sequence
from typing import NamedTuple

from detector.datasets.formats.class_names import KeypointShape
from detector.datasets.formats.numbers import read_number
from detector.errors import UserError

# Fractions stray above 1 by rounding; a coordinate beyond this was meant in pixels.
_LARGEST_FRACTION = 2.0


class Line(NamedTuple):
    """label: class from 0. corners: (x1, y1, x2, y2) as fractions of the picture. values: all of the line's numbers but
    the class."""

    label: int
    corners: tuple[float, ...]
    values: tuple[float, ...]


def read_line(words: Sequence[str], where: str, num_classes: int, keypoints: KeypointShape | None = None) -> Line:
    """An object: a box, a box with keypoints, or a polygon, of which the enclosing box is taken.

    Args:
        words: of the line.
        where: file and line, for messages.
        keypoints: (points, numbers a point) where data.yaml states it; (0, 0): there are none.

    Raises:
        UserError: the words are not numbers, too few or too many, no class, or no fractions.
    """
    try:
        label, *values = (read_number(word) for word in words)
    except ValueError:
        raise UserError(
            f"{where}: {' '.join(words)[:80]!r} are not numbers only. Correct or remove the line."
        ) from None
    has_keypoints = keypoints is not None and keypoints[0] > 0
    pose = 4 + keypoints[0] * keypoints[1] if keypoints is not None and has_keypoints else 4
    is_polygon = not has_keypoints and len(values) >= 6 and len(values) % 2 == 0
    if not (len(values) in (4, pose) or is_polygon):
        expected = (
            f"class x_center y_center width height and {pose - 4} numbers of keypoints, as kpt_shape says"
            if has_keypoints
            else "class x_center y_center width height, or class and the corners of a polygon (or, with kpt_shape in "
            "data.yaml, a box and its keypoints)"
        )
        score = "; the last one may be a score, which detections have and labels do not" if len(values) == 5 else ""
        raise UserError(f"{where}: has {len(words)} numbers; expected {expected}{score}. Correct or remove the line.")
    if label not in range(num_classes):
        raise UserError(f"{where}: class {words[0]} is not in 0..{num_classes - 1}. Correct it, or the list of names.")
    fractions = values if is_polygon else values[:4]
    if max(fractions) > _LARGEST_FRACTION:
        raise UserError(
            f"{where}: {max(fractions):g} is not a fraction of the picture; divide pixels by its width and height."
        )
    if is_polygon:
        corners = min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
    else:
        x, y, width, height = values[:4]
        corners = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return Line(int(label), corners, tuple(values))


def ambiguous_poses(lines: Sequence[Line]) -> bool:
    """Whether what was read as polygons may as well be boxes with keypoints, in a set that does not say.

    Poses have the same number of points in every line, and the points lie in their boxes. That all polygons of a set
    look so is unlikely, unless they are very few.
    """
    long_lines = [line.values for line in lines if len(line.values) > 4]
    if not long_lines or len({len(values) for values in long_lines}) > 1:
        return False
    return all(_may_be_pose(values, 2) for values in long_lines) or all(
        _may_be_pose(values, 3) for values in long_lines
    )


def _may_be_pose(values: Sequence[float], dimensions: int) -> bool:
    x, y, width, height = values[:4]
    points = values[4:]
    if len(points) % dimensions or not (0 < width <= 1 and 0 < height <= 1):
        return False
    slack = 0.01
    if abs(x - 0.5) + width / 2 > 0.5 + slack or abs(y - 0.5) + height / 2 > 0.5 + slack:
        return False
    if dimensions == 3 and not set(points[2::3]) <= {0, 1, 2}:
        return False
    for point in zip(points[::dimensions], points[1::dimensions], strict=True):
        inside = abs(point[0] - x) <= width / 2 + slack and abs(point[1] - y) <= height / 2 + slack
        if not inside and point != (0, 0):
            return False
    return True
