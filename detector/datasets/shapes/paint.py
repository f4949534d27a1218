"""Colours, textures, backgrounds and the camera's faults, in arithmetic that rounds the same on every machine."""

from collections.abc import Callable

import numpy as np

from detector.datasets.shapes import difficulty
from detector.datasets.shapes.draws import Draws
from detector.structures import Size

Color = tuple[float, float, float]  # RGB, 0 to 255
Texture = Callable[[np.ndarray, np.ndarray, float], np.ndarray]  # (u, v, cycles) → share of the second colour

_PALETTE: tuple[Color, ...] = (
    (214, 58, 49),
    (240, 128, 40),
    (246, 205, 60),
    (122, 178, 52),
    (30, 140, 90),
    (56, 176, 196),
    (44, 98, 190),
    (118, 72, 180),
    (206, 84, 160),
    (240, 236, 228),
    (40, 40, 48),
    (132, 84, 52),
)
_HOME_COLORS = {  # positions in the palette
    "disc": (0, 9),
    "box": (5, 6),
    "triangle": (1, 2),
    "star": (2, 7),
    "ring": (3, 4),
    "cross": (8, 10),
}


def _shaded(_u: np.ndarray, v: np.ndarray, _cycles: float) -> np.ndarray:
    return np.clip(0.5 + 0.5 * v, 0.0, 1.0)


def _striped(_u: np.ndarray, v: np.ndarray, cycles: float) -> np.ndarray:
    return np.floor(v * cycles) % 2


def _checked(u: np.ndarray, v: np.ndarray, cycles: float) -> np.ndarray:
    return (np.floor(u * cycles) + np.floor(v * cycles)) % 2


def _spotted(u: np.ndarray, v: np.ndarray, cycles: float) -> np.ndarray:
    a, b = u * cycles, v * cycles
    a, b = a - np.floor(a) - 0.5, b - np.floor(b) - 0.5
    return (a * a + b * b < 0.09).astype(u.dtype)


def _concentric(u: np.ndarray, v: np.ndarray, cycles: float) -> np.ndarray:
    return np.floor((u * u + v * v) * cycles) % 2


def _plain(u: np.ndarray, _v: np.ndarray, _cycles: float) -> np.ndarray:
    return np.zeros_like(u)


_TEXTURES: dict[str, Texture] = {  # by the class at home in each
    "disc": _shaded,
    "box": _checked,
    "triangle": _striped,
    "star": _spotted,
    "ring": _concentric,
    "cross": _plain,
}


def choose_texture(draws: Draws, name: str) -> Texture:
    """The home texture of class `name`, or any."""
    if draws.chance(difficulty.HOME_TEXTURE):
        return _TEXTURES[name]
    return draws.choice(list(_TEXTURES.values()))


def choose_colors(draws: Draws, name: str, behind: Color) -> tuple[Color, Color]:
    """Two colours for an object of class `name`; the first stands out from the mean colour `behind` it."""
    for _ in range(8):
        home = draws.chance(difficulty.HOME_COLOR)
        first = _jitter(draws, _PALETTE[draws.choice(_HOME_COLORS[name])] if home else draws.choice(_PALETTE))
        if sum(abs(a - b) for a, b in zip(first, behind, strict=True)) >= difficulty.MIN_CONTRAST:
            break
    factor = draws.choice((0.45, 0.6, 1.5))
    return first, _jitter(draws, (first[0] * factor, first[1] * factor, first[2] * factor))


def background(draws: Draws, size: Size) -> np.ndarray:
    """[H, W, 3] float32: smooth noise of several scales around a random tone, with clutter on it."""
    height, width = size
    canvas = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((2, 1.0), (6, 0.6), (18, 0.35), (64, 0.2)):
        canvas += _smooth_noise(draws, size, cells) * (strength * difficulty.BACKGROUND_CONTRAST)
    canvas += np.array([draws.uniform(70, 190) for _ in range(3)], np.float32)
    for _ in range(draws.integer(difficulty.MAX_CLUTTER // 3, difficulty.MAX_CLUTTER)):
        _add_clutter(draws, canvas)
    return canvas


def _smooth_noise(draws: Draws, size: Size, cells: int) -> np.ndarray:
    """[H, W, 3] float32 in [-128, 127], bilinear between random values on a grid of `cells` × `cells`."""
    height, width = size
    grey = draws.octets(cells + 1, cells + 1, 1).astype(np.float32) - 128
    tint = draws.octets(cells + 1, cells + 1, 3).astype(np.float32) - 128
    grid = grey + difficulty.BACKGROUND_COLOR * (tint - grey)
    (row, down), (col, across) = _grid_positions(height, cells), _grid_positions(width, cells)
    grid = grid[row] * (1 - down)[:, None, None] + grid[row + 1] * down[:, None, None]
    across = for_each_channel(across)
    left, right = grid.take(col, axis=1), grid.take(col + 1, axis=1)
    left *= 1 - across
    right *= across
    left += right
    return left


def for_each_channel(values: np.ndarray) -> np.ndarray:
    """[...] → [..., 3] with three equal numbers in a row. A view would do, but NumPy's loops over it are slow."""
    return np.repeat(values, 3).reshape(*values.shape, 3)


def _grid_positions(length: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Cell of each of `length` pixels and its place inside the cell, in [0, 1)."""
    position = np.arange(length) * cells
    return position // length, ((position % length) / length).astype(np.float32)


def _add_clutter(draws: Draws, canvas: np.ndarray) -> None:
    """Blend a thin bar or a soft blob into the canvas."""
    height, width = canvas.shape[:2]
    center_y, center_x = draws.integer(0, height), draws.integer(0, width)
    thin = draws.chance(0.5)
    radius = draws.integer(20, 90) if thin else draws.integer(10, 50)
    top, left = max(center_y - radius, 0), max(center_x - radius, 0)
    window = canvas[top : center_y + radius, left : center_x + radius]
    y = (np.arange(window.shape[0], dtype=np.float32) + (top - center_y))[:, None] / radius
    x = (np.arange(window.shape[1], dtype=np.float32) + (left - center_x))[None, :] / radius
    cosine, sine = unit_vector(draws)
    u, v = cosine * x + sine * y, cosine * y - sine * x
    if thin:
        share = ((np.abs(v) * radius <= draws.uniform(0.7, 3.0)) & (np.abs(u) <= 0.9)).astype(np.float32)
    else:
        share = np.clip(1.0 - u * u - v * v * draws.uniform(1.0, 4.0), 0.0, 1.0).astype(np.float32)
    share = share * draws.uniform(0.25, 0.85)
    color = np.array([draws.uniform(20, 235) for _ in range(3)], np.float32)
    window += for_each_channel(share) * (color - window)


def unit_vector(draws: Draws) -> tuple[float, float]:
    """(cosine, sine) of a random angle, without a sine: t = tan(angle / 2) gives both as fractions."""
    t = draws.uniform(-1.0, 1.0)
    sign = draws.choice((-1.0, 1.0))
    return sign * (1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t)


def camera(draws: Draws, canvas: np.ndarray) -> np.ndarray:
    """Uneven light, perhaps blur, noise, 8 bits: [H, W, 3] float32 → uint8."""
    height, width = canvas.shape[:2]
    across = np.arange(width, dtype=np.float32) / width
    down = np.arange(height, dtype=np.float32)[:, None] / height
    light = 1.0 + draws.uniform(-0.3, 0.3) * (across - 0.5) + draws.uniform(-0.3, 0.3) * (down - 0.5)
    canvas = canvas * for_each_channel((light * draws.uniform(0.8, 1.1)).astype(np.float32))
    if draws.chance(difficulty.BLURRED):
        for _ in range(draws.integer(1, 3)):
            canvas = _blur(canvas)
    noise = draws.octets(4, *canvas.shape).astype(np.int16)
    noise_sum = (noise[0] + noise[1] + noise[2] + noise[3] - 510).astype(np.float32)  # deviation 147.8
    canvas = canvas + noise_sum * (draws.uniform(0.0, difficulty.NOISE) / 147.8)
    return np.clip(np.floor(canvas + 0.5), 0, 255).astype(np.uint8)


def _blur(canvas: np.ndarray) -> np.ndarray:
    """Binomial 1-2-1 blur of both axes, edges repeated."""
    padded = np.pad(canvas, ((1, 1), (0, 0), (0, 0)), mode="edge")
    canvas = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) * 0.25
    padded = np.pad(canvas, ((0, 0), (1, 1), (0, 0)), mode="edge")
    return (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) * 0.25


def _jitter(draws: Draws, color: Color) -> Color:
    red, green, blue = (min(max(c + draws.uniform(-22, 22), 0.0), 255.0) for c in color)
    return red, green, blue
