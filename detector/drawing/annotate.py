"""Pictures for people: boxes with legible labels, and two pictures side by side.

Line and letters scale with the picture, colours belong to classes (the same on every picture and in every run), and a
label stays inside the picture and clear of other labels as far as there is room.
"""

import colorsys
import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from detector.drawing.tags import MAX_LETTERS, MOST_TAGS, Color, Rectangle, blend, luminance, make_tags, place_tags
from detector.drawing.text import can_write, text_mask
from detector.errors import UserError
from detector.structures import Size

PAPER: Color = (246, 246, 244)
INK: Color = (32, 32, 36)


def draw_detections(
    image: np.ndarray,
    boxes: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    scores: Tensor | np.ndarray | None,
    names: Sequence[str],
    tags: bool = True,
    line_width: int | None = None,
    colors: Sequence[Color] | None = None,
) -> np.ndarray:
    """Draw boxes with their class names (and scores) onto a copy of a picture.

    On a crowded picture the tags of the least sure are left out where they would bury objects.

    Args:
        image: [H, W, 3] uint8 RGB.
        boxes: [D, 4] xyxy, absolute pixels of `image`, on the CPU.
        labels: [D] integers 1..K.
        scores: [D] in [0, 1], written with two decimals; None (ground truth) writes the name alone.
        names: K class names; that of label l is `names[l - 1]`. A name that no font at hand can write, or an empty
            one, is written as `class l`.
        tags: False draws the boxes alone.
        line_width: of the boxes, in pixels; None chooses by the size of the picture.
        colors: D of them; None gives each class its own.

    Returns:
        [H, W, 3] uint8 RGB, a new array of the same size.

    Raises:
        UserError: `image` is not such an array, or `line_width` is below 1.
    """
    if line_width is not None and line_width < 1:
        raise UserError(f"line_width={line_width}: choose 1 or more pixels.")
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError("a picture to draw on must be an [H, W, 3] uint8 RGB array.")
    canvas = image.copy()
    rectangles = [_to_pixels(box, _size(image)) for box in np.asarray(boxes, np.float64).reshape(-1, 4)]
    classes = [int(label) for label in np.asarray(labels)]
    own = [class_color(label) for label in classes] if colors is None else colors
    certainty = np.ones(len(classes)) if scores is None else np.asarray(scores, np.float64)
    surest_first = np.argsort(-certainty, kind="stable").tolist()

    scale = math.sqrt(image.shape[0] * image.shape[1]) / 256
    width = line_width or max(1, round(1.3 * scale**0.6))
    for i in reversed(surest_first):  # the surest on top
        _draw_frame(canvas, rectangles[i], width, own[i])
    if not tags:
        return canvas
    surest_first = surest_first[:MOST_TAGS]
    written = {label: _class_name(names, label) for label in set(classes)}
    texts = [written[classes[i]] + ("" if scores is None else f" {certainty[i]:.2f}") for i in surest_first]
    filled = make_tags(texts, [own[i] for i in surest_first], _size(image), largest=round(11 * scale**0.56))
    # The surest has the first choice of place, and lies on top.
    places = place_tags([rectangles[i] for i in surest_first], [_size(tag) for tag in filled], _size(image))
    for tag, place in reversed(list(zip(filled, places, strict=True))):
        if place is not None:
            left, top, right, bottom = place
            canvas[top:bottom, left:right] = tag[: bottom - top, : right - left]
    return canvas


def side_by_side(left: np.ndarray, right: np.ndarray, captions: tuple[str, str]) -> np.ndarray:
    """Two pictures next to each other under their captions, for comparing detections with ground truth.

    Args:
        left: [H1, W1, 3] uint8 RGB.
        right: [H2, W2, 3] uint8 RGB.
        captions: what is written above either.

    Returns:
        [H, W, 3] uint8 RGB, with a margin around both; the shorter picture stands at the top.
    """
    height, width = max(left.shape[0], right.shape[0]), left.shape[1] + right.shape[1]
    letter_size = max(11, round(13 * (math.sqrt(height * width / 2) / 256) ** 0.56))
    gap = max(6, letter_size // 2)
    strip = 2 * letter_size
    sheet = np.empty((strip + height + gap, width + 3 * gap, 3), np.uint8)
    sheet[:] = PAPER
    x = gap
    for picture, caption in zip((left, right), captions, strict=True):
        sheet[strip : strip + picture.shape[0], x : x + picture.shape[1]] = picture
        mask = text_mask(caption, letter_size)[:strip, : picture.shape[1]]
        top = (strip - mask.shape[0]) // 2
        area = sheet[top : top + mask.shape[0], x : x + mask.shape[1]]
        area[:] = blend(mask, INK, PAPER)
        x += picture.shape[1] + gap
    return sheet


def class_color(label: int) -> Color:
    """The colour of a class: a function of its label alone, and far from those of the labels near it."""
    # Steps of the golden ratio spread any number of hues evenly; alternating strength keeps near hues apart.
    hue = (0.58 + 0.618034 * (label - 1)) % 1.0
    saturation, value = ((0.85, 0.98), (0.62, 1.0), (0.9, 0.8))[(label - 1) % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    # Pure blue is nearly black to the eye: lighten what would be lost on a dark picture.
    lack = max(0.0, 0.16 - luminance((red, green, blue)))
    red, green, blue = (c + 2 * lack * (1 - c) for c in (red, green, blue))
    return round(255 * red), round(255 * green), round(255 * blue)


def _size(image: np.ndarray) -> Size:
    return image.shape[0], image.shape[1]


def _to_pixels(box: np.ndarray, size: Size) -> Rectangle:
    """The box in whole pixels inside the picture, at least one pixel wide and high."""
    height, width = size
    left = min(max(round(float(box[0])), 0), width - 1)
    top = min(max(round(float(box[1])), 0), height - 1)
    right = max(min(round(float(box[2])), width), left + 1)
    bottom = max(min(round(float(box[3])), height), top + 1)
    return left, top, right, bottom


def _draw_frame(canvas: np.ndarray, rectangle: Rectangle, line_width: int, color: Color) -> None:
    """Draw the frame inward from the box's edge, and a thin dark line inside it that sets it off from the picture."""
    if line_width > 1:
        dark = (color[0] // 4, color[1] // 4, color[2] // 4)
        _fill_border(canvas, rectangle, line_width + max(1, line_width // 3), dark)
    _fill_border(canvas, rectangle, line_width, color)


def _fill_border(canvas: np.ndarray, rectangle: Rectangle, width: int, color: Color) -> None:
    left, top, right, bottom = rectangle
    inside = canvas[top:bottom, left:right]
    inside[:width] = color
    inside[-width:] = color
    inside[:, :width] = color
    inside[:, -width:] = color


def _class_name(names: Sequence[str], label: int) -> str:
    """The name of a label, cut where no tag could hold it; `class l` where no font at hand has its characters."""
    name = names[label - 1][:MAX_LETTERS]
    return name if name.strip() and can_write(name) else f"class {label}"
