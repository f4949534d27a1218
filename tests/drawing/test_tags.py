"""Tags: their letters, their length, and that crowded pictures keep their objects visible."""

import time

import numpy as np
import pytest

from detector.drawing import annotate, tags
from detector.drawing.annotate import draw_detections
from detector.drawing.tags import SMALLEST, make_tags, place_tags
from detector.drawing.text import text_mask

NAMES = ["person", "bicycle", "car", "triangle", "traffic light", "dog"]
RED = (255, 0, 0)


def crowd(seed: int, count: int = 24, size: tuple[int, int] = (480, 640)) -> np.ndarray:
    """Boxes of 24 to 90 pixels, [D, 4] whole xyxy, at random places of a picture."""
    rng = np.random.default_rng(seed)
    sides = rng.integers(24, 90, (count, 2))
    corners = rng.integers(0, np.array((size[1], size[0])) - sides)
    return np.concatenate((corners, corners + sides), axis=1)


def covered(boxes: np.ndarray, places: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The share of each box that tags cover."""
    mask = np.zeros(size, bool)
    for left, top, right, bottom in places:
        mask[top:bottom, left:right] = True
    return np.array([mask[y1:y2, x1:x2].mean() for x1, y1, x2, y2 in boxes])


@pytest.mark.parametrize("seed", range(6))
def test_tags_do_not_bury_the_objects_of_a_crowded_picture(seed: int) -> None:
    boxes, size = crowd(seed), (480, 640)
    texts = [f"{NAMES[i % 6]} 0.{50 + i}" for i in range(len(boxes))]
    filled = make_tags(texts, [RED] * len(boxes), size, largest=17)
    places = np.array(place_tags([tuple(box) for box in boxes.tolist()], [one.shape[:2] for one in filled], size))
    shares = covered(boxes, places, size)
    assert shares.max() < 0.4
    assert shares.mean() < 0.05
    assert (places[:, :2] >= 0).all()
    assert (places[:, 2:] <= (640, 480)).all()
    # Each tag is near its box: at most two tags' heights away.
    apart = np.maximum(np.maximum(boxes[:, :2] - places[:, 2:], places[:, :2] - boxes[:, 2:]), 0)
    assert apart.sum(axis=1).max() <= 2 * filled[0].shape[0]


@pytest.mark.parametrize(("count", "placed"), [(100, 90), (300, 100)])
def test_where_tags_would_bury_objects_those_of_the_least_sure_are_left_out(count: int, placed: int) -> None:
    boxes, size = crowd(0, count), (480, 640)
    filled = make_tags([f"{NAMES[i % 6]} 0.50" for i in range(count)], [RED] * count, size, largest=17)
    places = place_tags([tuple(box) for box in boxes.tolist()], [one.shape[:2] for one in filled], size)
    kept = [place for place in places if place is not None]
    assert covered(boxes, np.array(kept), size).max() <= 0.34
    assert placed <= len(kept) <= count
    assert (len(kept) < count) == (count == 300)
    assert all(place is not None for place in places[:20])  # the surest choose first


def test_a_tag_is_compared_with_what_is_near_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = [tuple(box) for box in crowd(0, 400, (2000, 2000)).tolist()]
    sizes = [(14, 60)] * len(boxes)
    real, compared = tags._hidden_shares, 0

    def counted(places: np.ndarray, others: np.ndarray) -> np.ndarray:
        nonlocal compared
        compared += len(others)
        return real(places, others)

    monkeypatch.setattr(tags, "_hidden_shares", counted)
    placed = place_tags(boxes, sizes, (2000, 2000))
    assert compared < 20 * len(boxes)
    monkeypatch.setattr(tags, "_within_reach", lambda others, _places: np.arange(len(others)))
    assert place_tags(boxes, sizes, (2000, 2000)) == placed


def test_the_surest_of_very_many_have_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotate, "MOST_TAGS", 2)
    boxes = np.array([[10, 40, 30, 60], [90, 40, 110, 60], [170, 40, 190, 60]])
    drawn = draw_detections(np.zeros((100, 200, 3), np.uint8), boxes, np.ones(3, int), np.array([0.5, 0.9, 0.7]), ["a"])
    above = [drawn[20:38, x : x + 20].any() for x in (10, 90, 170)]
    assert above == [False, True, True]


def test_the_only_tag_of_a_tiny_picture_is_not_left_out() -> None:
    assert place_tags([(2, 2, 18, 18)], [(14, 40)], (20, 20)) != [None]


def test_letters_shrink_where_there_are_many_and_stay_legible() -> None:
    few, many = (make_tags(["person 0.98"] * count, [RED] * count, (480, 640), 17)[0] for count in (2, 24))
    assert few.shape[0] == text_mask("a", 17).shape[0]
    assert text_mask("a", SMALLEST).shape[0] <= many.shape[0] < few.shape[0]
    assert make_tags(["a"] * 5000, [RED] * 5000, (480, 640), 17)[0].shape[0] == text_mask("a", SMALLEST).shape[0]


def test_a_long_text_is_cut_to_the_width_of_the_picture() -> None:
    (tag,) = make_tags(["a long name of a class 0.98"], [RED], (400, 60), 12)
    (longer,) = make_tags(["a long name of a class 0.98"], [RED], (400, 62), 12)
    assert 45 < tag.shape[1] <= 60
    assert longer.shape[1] >= tag.shape[1]


@pytest.mark.parametrize("name", ["x" * 10_000, "".join(chr(0x4E00 + i) for i in range(10_000)), "\n" * 10_000])
def test_names_of_ten_thousand_characters_take_no_time(name: str) -> None:
    began = time.process_time()
    drawn = draw_detections(
        np.full((300, 400, 3), 9, np.uint8), crowd(0, 20, (300, 400)), np.ones(20, int), None, [name]
    )
    assert time.process_time() - began < 5  # it was minutes
    assert (drawn != 9).any()
