"""Outlines of the six classes and of the look-alikes, as tests on points of the square [-1, 1] × [-1, 1].

Each takes the coordinates u (to the right) and v (down) of some points, two float arrays of one shape, and returns a
bool array of that shape: whether each point is inside.

Only comparisons, additions and multiplications are used, and constants are literal, so every machine agrees.
"""

from collections.abc import Callable

import numpy as np

Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (u, v) of any one shape → bool

# Outward normals of an upright triangle and of a pentagon with a corner up (v grows downwards).
_TRIANGLE = ((0.0, 1.0), (0.8660254, -0.5), (-0.8660254, -0.5))
_PENTAGON = (
    (0.0, 1.0),
    (0.9510565, 0.3090170),
    (0.5877853, -0.8090170),
    (-0.5877853, -0.8090170),
    (-0.9510565, 0.3090170),
)
_ARM = 0.32  # half the width of a cross's arms


def disc(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The unit disc."""
    return u * u + v * v <= 1.0


def box(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A square with sides of 1.6."""
    return np.maximum(np.abs(u), np.abs(v)) <= 0.8


def triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """An equilateral triangle with a corner up, its corners on the unit circle."""
    return _sides_passed(u, v, _TRIANGLE, 0.5) == 3


def star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A pentagram: the points inside at least four of the five lines that bound its inner pentagon."""
    return _sides_passed(u, v, _PENTAGON, 0.3090170) >= 4


def ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The unit disc with a round hole."""
    squared = u * u + v * v
    return (squared <= 1.0) & (squared >= 0.3)


def cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """An upright cross with four equal arms."""
    a, b = np.abs(u), np.abs(v)
    return (np.minimum(a, b) <= _ARM) & (np.maximum(a, b) <= 0.95)


def half_disc(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The upper half of the unit disc."""
    return disc(u, v) & (v <= 0.05)


def bar(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A bar that lies flat."""
    return (np.abs(u) <= 0.95) & (np.abs(v) <= 0.3)


def chevron(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """An arrowhead that points up: the triangle with a lower copy of itself cut out."""
    return triangle(u, v) & ~triangle(u, v - 0.7)


def four_points(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A star with four points and curved sides."""
    a, b = np.abs(u), np.abs(v)
    return a + b + 6.0 * a * b <= 1.0


def open_ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The ring with a wedge missing at the right."""
    return ring(u, v) & ~((u > 0) & (np.abs(v) <= 0.8 * u))


def tee(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The cross without its upper arm."""
    return cross(u, v) & (v >= -_ARM)


OUTLINES: dict[str, Outline] = {
    "disc": disc,
    "box": box,
    "triangle": triangle,
    "star": star,
    "ring": ring,
    "cross": cross,
}
LOOK_ALIKES: dict[str, Outline] = {  # by the class that each resembles
    "disc": half_disc,
    "box": bar,
    "triangle": chevron,
    "star": four_points,
    "ring": open_ring,
    "cross": tee,
}


def _sides_passed(
    u: np.ndarray, v: np.ndarray, normals: tuple[tuple[float, float], ...], distance: float
) -> np.ndarray:
    """How many of the lines at `distance` from the middle have each point on their inner side."""
    passed = np.zeros(u.shape, np.int8)
    for normal_u, normal_v in normals:
        passed += normal_u * u + normal_v * v <= distance
    return passed
