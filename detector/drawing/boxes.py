"""Pictures for people: boxes with legible labels, and two pictures side by side.

Line and letters scale with the picture, colours belong to classes (the same on every picture and in every run), and a
label stays inside the picture and clear of other labels as far as there is room.
"""

import colorsys
import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from detector.drawing.text import can_write, text_mask
from detector.errors import UserError
from detector.structures import Size

Color = tuple[int, int, int]  # red, green, blue, 0 to 255
Rectangle = tuple[int, int, int, int]  # left, top, right, bottom in whole pixels; right and bottom are outside

BLACK: Color = (0, 0, 0)
WHITE: Color = (255, 255, 255)
PAPER: Color = (246, 246, 244)
INK: Color = (32, 32, 36)


def draw_detections(
    image: np.ndarray,
    boxes: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    scores: Tensor | np.ndarray | None,
    names: Sequence[str],
) -> np.ndarray:
    """Draw boxes with their class names (and scores) onto a copy of a picture.

    Args:
        image: [H, W, 3] uint8 RGB.
        boxes: [D, 4] xyxy, absolute pixels of `image`, on the CPU.
        labels: [D] integers 1..K.
        scores: [D] in [0, 1], written with two decimals; None (ground truth) writes the name alone.
        names: K class names; that of label l is `names[l - 1]`. A name that no font at hand can write, or an empty
            one, is written as `class l`.

    Returns:
        [H, W, 3] uint8 RGB, a new array of the same size.

    Raises:
        UserError: `image` is not such an array.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError("a picture to draw on must be an [H, W, 3] uint8 RGB array.")
    canvas = image.copy()
    rectangles = [_to_pixels(box, _size(image)) for box in np.asarray(boxes, np.float64).reshape(-1, 4)]
    classes = [int(label) for label in np.asarray(labels)]
    certainty = np.ones(len(classes)) if scores is None else np.asarray(scores, np.float64)
    surest_first = np.argsort(-certainty, kind="stable").tolist()

    scale = math.sqrt(image.shape[0] * image.shape[1]) / 256
    line_width = max(1, round(1.3 * scale**0.6))
    letter_size = max(10, round(11 * scale**0.56))

    for i in reversed(surest_first):  # the surest on top
        _draw_frame(canvas, rectangles[i], line_width, class_color(classes[i]))
    tags, places = [], list[Rectangle]()
    for i in surest_first:  # and the surest has the first choice of place
        text = _class_name(names, classes[i]) + ("" if scores is None else f" {certainty[i]:.2f}")
        tag = _make_tag(text, letter_size, image.shape[1], class_color(classes[i]))
        tags.append(tag)
        places.append(_free_place(rectangles[i], _size(tag), _size(image), places))
    for tag, (left, top, right, bottom) in reversed(list(zip(tags, places, strict=True))):
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
        area[:] = _blend(mask, INK, PAPER)
        x += picture.shape[1] + gap
    return sheet


def class_color(label: int) -> Color:
    """The colour of a class: a function of its label alone, and far from those of the labels near it."""
    # Steps of the golden ratio spread any number of hues evenly; alternating strength keeps near hues apart.
    hue = (0.58 + 0.618034 * (label - 1)) % 1.0
    saturation, value = ((0.85, 0.98), (0.62, 1.0), (0.9, 0.8))[(label - 1) % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    # Pure blue is nearly black to the eye: lighten what would be lost on a dark picture.
    lack = max(0.0, 0.16 - _luminance((red, green, blue)))
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
    name = names[label - 1]
    return name if name.strip() and can_write(name) else f"class {label}"


def _make_tag(text: str, letter_size: int, max_width: int, color: Color) -> np.ndarray:
    """A filled tag with the text on it, [h, w, 3] uint8, at most `max_width` wide: a longer text is cut short."""
    margin = max(2, round(0.3 * letter_size))
    mask = text_mask(text, letter_size)
    shown = len(text)
    while shown > 1 and mask.shape[1] + 2 * margin > max_width:
        shown -= 1
        mask = text_mask(text[:shown] + "…", letter_size)
    padded = np.pad(mask, ((0, 0), (margin, margin)))
    return _blend(padded, _readable_on(color), color)


def _blend(mask: np.ndarray, ink: Color, paper: Color) -> np.ndarray:
    """[h, w, 3] uint8: `ink` where the mask covers, `paper` where it does not."""
    coverage = mask[..., None].astype(np.float32) / 255
    mixed = coverage * np.asarray(ink, np.float32) + (1 - coverage) * np.asarray(paper, np.float32)
    return np.rint(mixed).astype(np.uint8)


def _readable_on(color: Color) -> Color:
    """Black or white, whichever contrasts more."""
    luminance = _luminance((color[0] / 255, color[1] / 255, color[2] / 255))
    return (
        BLACK if (luminance + 0.05) ** 2 > 0.05 * 1.05 else WHITE
    )  # WCAG: contrast is (lighter + .05) / (darker + .05)


def _luminance(color: tuple[float, float, float]) -> float:
    """Relative luminance (WCAG) of an sRGB colour with components in [0, 1]; 0 is black, 1 white."""
    red, green, blue = (((c + 0.055) / 1.055) ** 2.4 if c > 0.04 else c / 12.92 for c in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _free_place(box: Rectangle, tag: Size, image: Size, taken: Sequence[Rectangle]) -> Rectangle:
    """Where a tag goes: above the box if it can, else near it, inside the picture, covering other tags the least."""
    left, top, right, bottom = box
    height, width = min(tag[0], image[0]), min(tag[1], image[1])
    corners = (
        (left, top - height),
        (left, top),
        (right - width, top - height),
        (left, bottom),
        (left, bottom - height),
        (right - width, bottom),
        (right - width, bottom - height),
        (right - width, top),
        (right, top),
        (left - width, top),
        (left, top - 2 * height),
        (left, top + height),
        (left, bottom + height),
        (left, top - 3 * height),
        (left, top + 2 * height),
    )
    places = []
    for x, y in corners:
        x, y = min(max(x, 0), image[1] - width), min(max(y, 0), image[0] - height)
        places.append((x, y, x + width, y + height))
    return min(places, key=lambda place: sum(_overlap(place, other) for other in taken))


def _overlap(a: Rectangle, b: Rectangle) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
