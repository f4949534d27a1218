"""Tags: class names on filled rectangles, and places for them where they hide neither objects nor each other."""

from collections.abc import Sequence

import numpy as np

from detector.drawing.text import text_mask
from detector.structures import Size

Color = tuple[int, int, int]  # red, green, blue, 0 to 255
Rectangle = tuple[int, int, int, int]  # left, top, right, bottom in whole pixels; right and bottom are outside

BLACK: Color = (0, 0, 0)
WHITE: Color = (255, 255, 255)

SMALLEST = 10  # pixels of the letters' body, below which names cannot be read
MAX_LETTERS = 100  # of a text: no tag of legible letters holds more
MOST_TAGS = 2000  # on a picture: more could not be read, and to place a million takes hours
CROWDED = 0.08  # share of the picture that all tags together may take before their letters shrink
BURIED = 1 / 3  # share of an object that tags may hide together; where no place keeps to it, a tag is left out

# What a place costs. Hiding the whole of an object costs 1, a large object's corner next to nothing.
_HIDDEN_TAG = 4.0  # for hiding the whole of another tag: it would be lost, where an object still has its frame
_STEP_AWAY = 0.02  # for each height of the tag between it and its box: whose tag is it?
_LATER_CHOICE = 0.0005  # among equals the first place, above the box at its left


def make_tags(texts: Sequence[str], colors: Sequence[Color], image: Size, largest: int) -> list[np.ndarray]:
    """Filled tags with the texts on them, all with letters of one size.

    Args:
        texts: what is written; a text that is wider than the picture is cut short.
        colors: of the tags.
        image: (height, width) of the picture.
        largest: size of the letters in pixels, where all tags together leave the picture visible.

    Returns:
        Tags, each [h, w, 3] uint8 RGB.
    """
    size = max(SMALLEST, largest)
    masks = [_fitting_mask(text, size, image[1]) for text in texts]
    share = sum(mask.size for mask in masks) / (image[0] * image[1])
    if share > CROWDED and size > SMALLEST:
        size = max(SMALLEST, int(size * (CROWDED / share) ** 0.5))
        masks = [_fitting_mask(text, size, image[1]) for text in texts]
    return [blend(mask, _readable_on(color), color) for mask, color in zip(masks, colors, strict=True)]


def place_tags(boxes: Sequence[Rectangle], tags: Sequence[Size], image: Size) -> list[Rectangle | None]:
    """Find a place for each tag, at its box and inside the picture, where it hides least of all boxes and other tags.

    A tag is left out where, at every place, tags would hide more than a third of some object (`BURIED`): its box keeps
    its frame, whose colour tells the class. The first tag always gets a place.

    Args:
        boxes: of the objects. Those that come first choose first.
        tags: (height, width) of their tags.
        image: (height, width) of the picture.
    """
    objects = np.array(boxes, np.float64).reshape(-1, 4)
    hidden = np.zeros(len(objects))  # of each object, by the tags so far
    taken = np.empty((len(tags), 4))
    count = 0  # of those taken
    places: list[Rectangle | None] = []
    for box, (tag_height, tag_width) in zip(boxes, tags, strict=True):
        height, width = min(tag_height, image[0]), min(tag_width, image[1])
        corners, steps = _candidates(box, (height, width), image)
        candidates = np.concatenate((corners, corners + np.array((width, height))), axis=1)
        near = _within_reach(objects, candidates)
        hides = _hidden_shares(candidates, objects[near])
        of_tags = _hidden_shares(candidates, taken[_within_reach(taken[:count], candidates)]).sum(axis=1)
        cost = hides.sum(axis=1) + _HIDDEN_TAG * of_tags
        cost += _STEP_AWAY * steps + _LATER_CHOICE * np.arange(len(candidates))
        buries = ((hides > 0) & (hidden[near] + hides > BURIED)).any(axis=1)
        if count and buries.all():
            places.append(None)
            continue
        if not buries.all():
            cost[buries] = np.inf
        best = int(cost.argmin())
        hidden[near] += hides[best]
        left, top = corners[best].tolist()
        places.append((left, top, left + width, top + height))
        taken[count] = places[-1]
        count += 1
    return places


def blend(mask: np.ndarray, ink: Color, paper: Color) -> np.ndarray:
    """[h, w, 3] uint8: `ink` where the [h, w] uint8 mask covers, `paper` where it does not."""
    coverage = mask[..., None].astype(np.float32) / 255
    mixed = coverage * np.asarray(ink, np.float32) + (1 - coverage) * np.asarray(paper, np.float32)
    return np.rint(mixed).astype(np.uint8)


def luminance(color: tuple[float, float, float]) -> float:
    """Relative luminance (WCAG) of an sRGB colour with components in [0, 1]; 0 is black, 1 white."""
    red, green, blue = (((c + 0.055) / 1.055) ** 2.4 if c > 0.04 else c / 12.92 for c in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _fitting_mask(text: str, letter_size: int, max_width: int) -> np.ndarray:
    """[h, w] uint8 coverage of a text with a margin at both ends, cut short where it is wider than `max_width`."""
    margin = max(2, round(0.3 * letter_size))
    text = text[:MAX_LETTERS]
    mask = text_mask(text, letter_size)
    if mask.shape[1] + 2 * margin > max_width:
        fits, too_long = 1, len(text)  # the longest beginning that fits, by halving
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            is_narrow = text_mask(text[:middle] + "…", letter_size).shape[1] + 2 * margin <= max_width
            fits, too_long = (middle, too_long) if is_narrow else (fits, middle)
        mask = text_mask(text[:fits] + "…", letter_size)
    return np.pad(mask, ((0, 0), (margin, margin)))


def _candidates(box: Rectangle, tag: Size, image: Size) -> tuple[np.ndarray, np.ndarray]:
    """Places for a tag at a box: [N, 2] left and top, inside the picture; [N] how many heights each is away."""
    left, top, right, bottom = box
    height, width = tag
    at_edges = [left, right - width, (left + right - width) // 2, right, left - width]
    rows = [top - height, bottom, top, bottom - height, (top + bottom - height) // 2]
    rows += [top - 2 * height, bottom + height, top - 3 * height, bottom + 2 * height]
    corners = np.array([(x, y) for y in rows for x in at_edges]).clip((0, 0), (image[1] - width, image[0] - height))
    apart_x = np.maximum(np.maximum(left - (corners[:, 0] + width), corners[:, 0] - right), 0)
    apart_y = np.maximum(np.maximum(top - (corners[:, 1] + height), corners[:, 1] - bottom), 0)
    return corners, (apart_x + apart_y) / height


def _within_reach(others: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Which of [M, 4] rectangles, as [*] numbers, can be hidden by any of [N, 4] places; quickly, of thousands."""
    left, top = places[:, :2].min(axis=0)
    right, bottom = places[:, 2:].max(axis=0)
    across = (others[:, 0] < right) & (others[:, 2] > left)
    return np.flatnonzero(across & (others[:, 1] < bottom) & (others[:, 3] > top))


def _hidden_shares(places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """[N, M]: the share of each of [M, 4] rectangles that each of [N, 4] places hides; 1 is the whole of it."""
    near = np.maximum(places[:, None, :2], others[None, :, :2])
    far = np.minimum(places[:, None, 2:], others[None, :, 2:])
    hidden = np.clip(far - near, 0, None).prod(axis=2)
    shares: np.ndarray = hidden / np.prod(others[:, 2:] - others[:, :2], axis=1)
    return shares


def _readable_on(color: Color) -> Color:
    """Black or white, whichever contrasts more (WCAG: contrast is (lighter + .05) / (darker + .05))."""
    light = luminance((color[0] / 255, color[1] / 255, color[2] / 255))
    return BLACK if (light + 0.05) ** 2 > 0.05 * 1.05 else WHITE
