import numpy as np
import pytest

from detector.drawing.close_up import close_up, short_name


@pytest.mark.parametrize("box", [[40, 50, 60, 90], [0, 0, 200, 100], [195, 95, 260, 140], [-9, -9, 3, 3]])
def test_the_box_lies_where_its_pixels_are(box: list[float]) -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    x1, y1, x2, y2 = (max(0, value) for value in box)
    image[y1:y2, x1:x2] = 255
    shown = close_up(image, np.array(box), 160)
    assert max(shown.pixels.shape[:2]) == 160
    rows, columns = np.nonzero(shown.pixels[..., 0] > 127)
    left, top, right, bottom = shown.place(np.array([box]))[0]
    height, width = shown.pixels.shape[:2]
    found = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    expected = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    assert np.abs(np.subtract(found, expected)).max() <= 1.5


def test_names_are_cut_at_their_start() -> None:
    assert short_name("a/b\\c.png") == "c.png"
    assert short_name("x" * 30 + "17.png", 10) == "…xxx17.png"
