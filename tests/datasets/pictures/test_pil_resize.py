import numpy as np
import PIL
import pytest
from PIL import Image

from detector.datasets.pictures.pil_resize import _taps, resize_like_pil
from detector.structures import Size


def by_pillow(image: np.ndarray, size: Size) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def one_side_after_the_other(image: np.ndarray, size: Size, first: str) -> np.ndarray:
    """Both passes of Pillow's resize, which every version does alike, in the order asked for."""
    return by_pillow(by_pillow(image, (image.shape[0], size[1]) if first == "x" else (size[0], image.shape[1])), size)


def picture(kind: int, size: Size, rng: np.random.Generator) -> np.ndarray:
    noise = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    if kind == 0:
        return noise
    if kind == 1:  # the largest differences
        return np.where(noise > 127, 255, 0).astype(np.uint8)
    smooth = 128 + np.cumsum(noise.astype(np.int64) % 7 - 3, axis=1)
    return np.clip(smooth, 0, 255).astype(np.uint8)


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="Pillow before 13 resizes along x first always")
def test_bit_equal_to_pillow_for_many_sizes() -> None:
    rng = np.random.default_rng(3)
    for number in range(300):
        size = (int(rng.integers(1, 120)), int(rng.integers(1, 120)))
        new_size = (int(rng.integers(1, 400)), int(rng.integers(1, 400)))
        image = picture(number % 3, size, rng)
        assert np.array_equal(resize_like_pil(image, new_size), by_pillow(image, new_size)), (size, new_size)


@pytest.mark.parametrize(
    ("size", "new_size", "first"),
    [
        ((500, 191), (400, 153), "y"),
        ((481, 300), (400, 260), "y"),  # 81 rows go, and 40 columns
        ((480, 300), (400, 260), "x"),  # 80 and 40
        ((480, 300), (400, 360), "y"),
        ((300, 480), (200, 200), "x"),
        ((120, 300), (200, 200), "x"),
    ],
)
def test_the_order_of_the_passes_depends_on_no_version(size: Size, new_size: Size, first: str) -> None:
    image = picture(0, size, np.random.default_rng(5))
    ours = resize_like_pil(image, new_size)
    other = one_side_after_the_other(image, new_size, "y" if first == "x" else "x")
    assert np.array_equal(ours, one_side_after_the_other(image, new_size, first))
    assert not np.array_equal(ours, other)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 6, 10, 2.5, 1.2, 1 + 1 / 3])
def test_bit_equal_where_halves_are_common(factor: float) -> None:
    """At such ratios many sums lie exactly between two values, and Pillow's rounded weights decide."""
    rng = np.random.default_rng(0)
    for number in range(6):
        size = (int(rng.integers(1, 10)) * 12, int(rng.integers(1, 10)) * 12)
        new_size = (round(size[0] * factor), round(size[1] * factor))
        image = picture(number % 2, size, rng)
        assert np.array_equal(resize_like_pil(image, new_size), by_pillow(image, new_size)), (size, new_size)


@pytest.mark.parametrize("size", [(480, 640), (427, 640), (640, 480), (375, 500), (333, 500), (612, 612)])
@pytest.mark.parametrize("shortest", [640, 800])
def test_bit_equal_at_the_usual_sizes(size: Size, shortest: int) -> None:
    scale = shortest / min(size)
    new_size = (int(size[0] * scale + 0.5), int(size[1] * scale + 0.5))
    image = picture(1, size, np.random.default_rng(1))
    assert np.array_equal(resize_like_pil(image, new_size), by_pillow(image, new_size))


@pytest.mark.parametrize(("old", "new"), [(3, 7), (640, 1067), (427, 800), (5, 6), (100, 600), (7, 4096), (2047, 4096)])
def test_every_pair_of_neighbours_rounds_as_in_pillow(old: int, new: int) -> None:
    """The argument of `_taps`, checked for all 511 differences of neighbours: nothing comes near a half."""
    bits = 1 << 22
    difference = np.arange(-255, 256)
    for x, tap in enumerate(_taps(old, new)):
        position = (2 * x + 1) * old - new
        fraction = 0 if tap.first == tap.second or position < 0 else position - tap.first * 2 * new
        weight = (fraction * bits + new) // (2 * new)
        expected = (difference * weight + bits // 2) >> 22  # Pillow's sum, minus the first of the two
        value = difference * tap.second_weight + tap.offset
        assert tap.first_weight + tap.second_weight == pytest.approx(1, abs=1e-15)
        # addWeighted rounds to the nearest; the sum must lie within a half of the value, with room for float32.
        assert np.abs(value - expected).max() < 0.5 - 4.6e-5


def test_a_hand_checked_line() -> None:
    """Two pixels to four: 10, 10 + 0.25·100, 10 + 0.75·100, 110."""
    line = np.repeat(np.array([[[10], [110]]], np.uint8), 3, axis=2)
    assert resize_like_pil(line, (1, 4))[0, :, 0].tolist() == [10, 35, 85, 110]
    assert resize_like_pil(line, (1, 1))[0, :, 0].tolist() == [60]  # shrinking averages


def test_views_and_unchanged_sizes() -> None:
    image = picture(0, (40, 50), np.random.default_rng(2))
    assert np.array_equal(resize_like_pil(image, (40, 50)), image)
    view = image[5:25, ::-1]
    for size in ((60, 70), (10, 12)):
        assert np.array_equal(resize_like_pil(view, size), by_pillow(np.ascontiguousarray(view), size))
