"""One picture of the embedded set and its ground truth."""

from dataclasses import dataclass

import numpy as np

from detector.datasets.shapes import difficulty, paint
from detector.datasets.shapes.draws import Draws
from detector.datasets.shapes.outlines import LOOK_ALIKES, OUTLINES
from detector.structures import Size


@dataclass(frozen=True)
class Shape:
    """An outline placed in a picture.

    top, left: corner of `coverage` in the picture. coverage: [h, w] float32 share of each pixel inside the outline,
    cut at the picture's border. u, v: [h, w] float32 position of each pixel's middle in the outline's own square.
    whole: pixels the outline would cover without a border. labelled: false for look-alikes.
    """

    name: str
    labelled: bool
    top: int
    left: int
    coverage: np.ndarray
    u: np.ndarray
    v: np.ndarray
    whole: float

    @property
    def window(self) -> tuple[slice, slice]:
        """The rows and columns of the picture that `coverage` occupies."""
        height, width = self.coverage.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


@dataclass(frozen=True)
class Annotation:
    """The ground truth of one object.

    name: its category. box: (x, y, width, height) of its visible part, in whole pixels. area: of that part, in pixels.
    """

    name: str
    box: tuple[int, int, int, int]
    area: int


def render_scene(split: int, index: int) -> tuple[np.ndarray, list[Annotation]]:
    """Picture `index` of split number `split`: [H, W, 3] uint8 RGB, and its annotations, front to back."""
    draws = Draws(difficulty.SEED, split, index)
    size = draws.choice(difficulty.IMAGE_SIZES)
    canvas = paint.background(draws, size)
    shapes, annotations = _keep_visible(_place_shapes(draws, size), size)
    for shape in reversed(shapes):
        _paint_shape(draws, canvas, shape)
    return paint.camera(draws, canvas), annotations


def _place_shapes(draws: Draws, size: Size) -> list[Shape]:
    """Objects and look-alikes at random places, front to back."""
    names = list(OUTLINES)
    empty = draws.chance(difficulty.EMPTY_PICTURES)
    labelled = [True] * (0 if empty else draws.integer(1, difficulty.MAX_OBJECTS))
    labelled += [False] * draws.integer(0, difficulty.MAX_DISTRACTORS)
    order = sorted(labelled, key=lambda _: draws.integer(0, 2**32))
    return [_place_shape(draws, size, draws.choice(names), is_object) for is_object in order]


def _place_shape(draws: Draws, size: Size, name: str, labelled: bool) -> Shape:
    height, width = size
    radius = _draw_diameter(draws) / 2
    center_y, center_x = draws.uniform(0, height), draws.uniform(0, width)
    cosine, sine = paint.unit_vector(draws)
    squeeze = 1.0 / draws.uniform(difficulty.MIN_ASPECT, 1.0)
    outline = OUTLINES[name] if labelled else LOOK_ALIKES[name]

    reach = int(radius * 1.5) + 2  # the corners of a turned square
    top, left = int(center_y) - reach, int(center_x) - reach
    # Twice as many points as pixels along each axis; four points decide a pixel's coverage.
    points = np.arange(4 * reach, dtype=np.float32) * 0.5 + 0.25
    y = ((points + (top - center_y)) / radius)[:, None]
    x = ((points + (left - center_x)) / radius)[None, :]
    u, v = cosine * x + sine * y, (cosine * y - sine * x) * squeeze
    coverage = _mean_of_four(outline(u, v).astype(np.float32))
    u, v = _mean_of_four(u), _mean_of_four(v)

    cut_top, cut_left = max(-top, 0), max(-left, 0)
    inside = (slice(cut_top, max(height - top, 0)), slice(cut_left, max(width - left, 0)))
    whole = float(np.count_nonzero(coverage >= 0.5))
    return Shape(name, labelled, top + cut_top, left + cut_left, coverage[inside], u[inside], v[inside], whole)


def _draw_diameter(draws: Draws) -> float:
    share = draws.uniform(0.0, 1.0)
    for probability, smallest, largest in difficulty.SCALES:
        if share < probability:
            return draws.uniform(smallest, largest)
        share -= probability
    return float(difficulty.SCALES[-1][2])


def _mean_of_four(points: np.ndarray) -> np.ndarray:
    """[2h, 2w] → [h, w]."""
    rows = points[0::2] + points[1::2]
    return (rows[:, 0::2] + rows[:, 1::2]) * np.float32(0.25)


def _keep_visible(shapes: list[Shape], size: Size) -> tuple[list[Shape], list[Annotation]]:
    """Leave out shapes that hardly show; annotate the others by the pixels that can be seen of them."""
    taken = np.zeros(size, bool)
    kept, annotations = [], []
    for shape in shapes:
        covered = shape.coverage >= 0.5
        visible = covered & ~taken[shape.window]
        area = int(np.count_nonzero(visible))
        if area < difficulty.MIN_VISIBLE * shape.whole or area == 0:
            continue
        rows, cols = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
        height, width = int(rows[-1] - rows[0]) + 1, int(cols[-1] - cols[0]) + 1
        if min(height, width) < difficulty.MIN_EDGE:
            continue
        taken[shape.window] |= covered
        kept.append(shape)
        if shape.labelled:
            box = (shape.left + int(cols[0]), shape.top + int(rows[0]), width, height)
            annotations.append(Annotation(shape.name, box, area))
    return kept, annotations


def _paint_shape(draws: Draws, canvas: np.ndarray, shape: Shape) -> None:
    window = canvas[shape.window]
    covered = window[shape.coverage >= 0.5].astype(np.int64)  # integers, because float sums depend on their order
    mean_red, mean_green, mean_blue = (covered.sum(0) / len(covered)).tolist()
    first, second = paint.choose_colors(draws, shape.name, (mean_red, mean_green, mean_blue))
    texture = paint.choose_texture(draws, shape.name)
    share = paint.for_each_channel(texture(shape.u, shape.v, draws.uniform(1.5, 4.0)).astype(np.float32))
    color = np.array(first, np.float32) + share * (np.array(second, np.float32) - np.array(first, np.float32))
    window += paint.for_each_channel(shape.coverage) * (color - window)
