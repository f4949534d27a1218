"""Drawing: sizes, colours, the labels' places, and names in scripts that fonts may lack."""

import cv2
import numpy as np
import pytest
import torch

from detector.drawing.annotate import class_color, draw_detections, side_by_side
from detector.drawing.text import can_write, text_mask
from detector.errors import UserError

NAMES = ["cat", "dog", "红细胞", "कोशिका", " "]


def blank(height: int, width: int, value: int = 128) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def draw(image: np.ndarray, boxes: list[list[float]], labels: list[int], scores: list[float] | None) -> np.ndarray:
    certainty = None if scores is None else torch.tensor(scores)
    return draw_detections(image, torch.tensor(boxes).reshape(-1, 4), torch.tensor(labels), certainty, NAMES)


def test_frame_lies_on_the_box_and_the_input_is_left_alone() -> None:
    image = blank(256, 256)
    drawn = draw(image, [[100.0, 120.0, 180.0, 200.0]], [1], [0.9])
    color = class_color(1)
    assert (image == 128).all()
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    for x, y in ((100, 150), (179, 150), (150, 199)):  # the box covers pixels 100..179 and 120..199
        assert tuple(drawn[y, x]) == color
    for x, y in ((99, 150), (180, 150), (150, 200), (140, 160)):
        assert tuple(drawn[y, x]) == (128, 128, 128)


def test_without_detections_the_picture_is_unchanged() -> None:
    image = blank(40, 60)
    assert np.array_equal(draw(image, [], [], []), image)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (30, 750), (900, 12), (64, 64), (1200, 1800)])
def test_any_size_of_picture(size: tuple[int, int]) -> None:
    height, width = size
    boxes = [[0.0, 0.0, float(width), float(height)], [width - 0.2, height - 0.2, float(width), float(height)]]
    drawn = draw(blank(height, width), boxes, [1, 2], [0.9, 0.8])
    assert drawn.shape == (height, width, 3)
    assert (drawn != 128).any()


def test_line_and_letters_grow_with_the_picture() -> None:
    def line_width(side: int) -> int:
        drawn = draw(blank(side, side), [[side / 4, side / 4, side / 2, side / 2]], [1], None)
        column = drawn[side // 2 - 20 : side // 2, round(side * 0.4)]
        return int((column == class_color(1)).all(axis=1).sum())

    assert [line_width(side) for side in (256, 640, 2000)] == [1, 2, 4]
    assert text_mask("a", 24).shape[0] > text_mask("a", 12).shape[0]


def test_labels_stay_inside_and_apart() -> None:
    image = blank(300, 300)
    one = draw(image, [[0.0, 0.0, 60.0, 60.0]], [2], [0.8])
    color = np.array(class_color(2))
    tag_pixels = (one == color).all(axis=2)
    assert tag_pixels[1:8, 61:100].mean() > 0.5  # no room above: the tag stands beside the box, and hides none of it
    whole = (draw(image, [[0.0, 0.0, 300.0, 300.0]], [2], [0.8]) == color).all(axis=2)
    assert whole[1:8, 1:40].mean() > 0.5  # no room outside: it lies inside the box's corner

    # Two equal boxes: both names must be readable, so twice the tag's area appears.
    apart = draw(image, [[100.0, 100.0, 180.0, 180.0]] * 2, [2, 2], [0.8, 0.8])
    alone = draw(image, [[100.0, 100.0, 180.0, 180.0]], [2], [0.8])
    area = [(picture == color).all(axis=2).sum() for picture in (alone, apart)]
    tag = area[0] - 4 * 80
    assert area[1] > area[0] + 0.6 * tag


def test_the_name_is_that_of_the_label() -> None:
    def named(names: list[str]) -> np.ndarray:
        return draw_detections(blank(200, 200), np.array([[20, 80, 120, 180]]), np.array([2]), None, names)

    assert np.array_equal(named(["cat", "dog", "cow"]), named(["x", "dog", "y"]))
    assert not np.array_equal(named(["cat", "dog", "cow"]), named(["cat", "x", "cow"]))


def test_the_surer_detection_is_drawn_on_top() -> None:
    boxes = [[50.0, 100.0, 150.0, 200.0], [50.0, 100.0, 150.0, 200.0]]
    for scores, top in (([0.9, 0.6], 1), ([0.6, 0.9], 2)):
        drawn = draw(blank(256, 256), boxes, [1, 2], scores)
        assert tuple(drawn[199, 100]) == class_color(top)


def test_colors_are_stable_and_distinct() -> None:
    assert class_color(1) == (37, 148, 250)
    colors = np.array([class_color(label) for label in range(1, 13)], float)
    apart = np.linalg.norm(colors[:, None] - colors[None], axis=2) + 1000 * np.eye(len(colors))
    assert apart.min() > 50


def test_names_beyond_ascii() -> None:
    assert can_write("cat …")
    if hasattr(cv2, "FontFace"):
        assert can_write("Zürich žába αβ Привет 红细胞 세포 خلية")
    assert not can_write("कोशिका")
    plain = draw_detections(blank(200, 200), np.array([[20, 80, 120, 180]]), np.array([1]), None, ["class 1"])
    for name in ("कोशिका", "", "  "):  # not writable, or nothing to write
        replaced = draw_detections(blank(200, 200), np.array([[20, 80, 120, 180]]), np.array([1]), None, [name])
        assert np.array_equal(replaced, plain)


def test_opencv_4_writes_by_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "FontFace", raising=False)
    mask = text_mask("dog 0.98", 14)
    assert mask.shape[0] == round(1.36 * 14)
    assert mask.max() > 200
    assert (mask[:, 0] == 0).mean() > 0.3  # letters, not a block
    assert text_mask("", 14).shape == (round(1.36 * 14), 0)
    assert not can_write("红")


def test_a_line_break_in_a_name_stays_on_the_line() -> None:
    assert np.array_equal(text_mask("a\nb", 14), text_mask("a b", 14))


def test_side_by_side() -> None:
    left, right = blank(50, 80, 10), blank(70, 40, 200)
    sheet = side_by_side(left, right, ("detections", "ground truth"))
    assert sheet.shape[0] > 70
    assert sheet.shape[1] > 120
    assert (sheet == 10).all(axis=2).sum() == 50 * 80
    assert (sheet == 200).all(axis=2).sum() == 70 * 40


def test_a_float_picture_is_refused() -> None:
    with pytest.raises(UserError, match=r"\[H, W, 3\] uint8"):
        draw_detections(np.zeros((4, 4, 3)), np.zeros((0, 4)), np.zeros(0), None, [])
