"""Windows of pictures: the same pixels as of the whole, from the file where it holds plain rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.datasets.pictures.read import ImageError, read_image
from detector.datasets.pictures.windows import DecodedWindows, MappedWindows, Window, open_windows, shrink_factor

PIXELS = np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "mode", "mapped", "options"),
    [
        ("a.bmp", "RGB", True, {}),
        ("a.bmp", "L", True, {}),
        ("a.bmp", "P", False, {}),
        ("a.ppm", "RGB", True, {}),
        ("a.pgm", "L", True, {}),
        ("a.tif", "RGB", True, {}),
        ("a.tif", "L", True, {}),
        ("a.tif", "RGB", False, {"compression": "tiff_lzw"}),
        ("a.tif", "RGBA", False, {}),
        ("a.png", "RGB", False, {}),
        ("a.jpg", "RGB", False, {}),
    ],
)
def test_windows_have_the_pixels_of_the_whole(
    tmp_path: Path, name: str, mode: str, mapped: bool, options: dict[str, Any]
) -> None:
    Image.fromarray(PIXELS).convert(mode).save(tmp_path / name, **options)
    whole = read_image(tmp_path / name)
    windows = open_windows(tmp_path / name, max_pixels=10_000)
    assert isinstance(windows, MappedWindows if mapped else DecodedWindows)
    assert windows.size == (37, 51)
    for top, left, height, width in [(0, 0, 37, 51), (5, 7, 20, 30), (36, 50, 1, 1)]:
        part = windows.read(Window(top, left, height, width))
        assert np.array_equal(part, whole[top : top + height, left : left + width])
        assert part.flags.c_contiguous


def test_only_what_is_decoded_whole_counts_against_the_limit(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.bmp")
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    assert open_windows(tmp_path / "a.bmp", max_pixels=100).size == (37, 51)
    with pytest.raises(ImageError, match=r"input\.max_pixels"):
        open_windows(tmp_path / "a.png", max_pixels=100)


@pytest.mark.parametrize("keep", [0, 10, 60, 3000])
def test_a_torn_file_is_reported_as_when_it_is_read_whole(tmp_path: Path, keep: int) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.bmp")
    (tmp_path / "a.bmp").write_bytes((tmp_path / "a.bmp").read_bytes()[:keep])
    with pytest.raises(ImageError):
        open_windows(tmp_path / "a.bmp", max_pixels=10_000)


@pytest.mark.parametrize("kept", [None, 60])
def test_a_file_that_goes_while_it_is_read_is_named(tmp_path: Path, kept: int | None) -> None:
    path = tmp_path / "a.bmp"
    Image.new("RGB", (9, 7), "red").save(path)
    windows = open_windows(path, 1000)
    path.write_bytes(path.read_bytes()[:kept]) if kept else path.unlink()
    with pytest.raises(ImageError, match=rf"{path}: .*; start again"):
        windows.read(Window(0, 0, 7, 9))


def test_a_sideways_picture_is_turned_upright(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[274] = 6
    image.save(tmp_path / "a.tif", exif=exif)
    assert open_windows(tmp_path / "a.tif", max_pixels=10_000).size == (51, 37)


def test_a_reduced_picture_is_the_mean_of_its_parts() -> None:
    small = np.random.default_rng(1).integers(0, 256, (300, 700, 3), dtype=np.uint8)
    large = small.repeat(4, axis=0).repeat(4, axis=1)
    assert np.array_equal(DecodedWindows(large).reduced(700), small)
    assert np.array_equal(DecodedWindows(small).reduced(701), small)
    assert shrink_factor((12000, 9000), 1600) == 7


def test_large_pictures_are_copied_strip_by_strip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    monkeypatch.setattr("detector.datasets.pictures.read._COPIED_PIXELS", 51 * 5)
    assert np.array_equal(read_image(tmp_path / "a.png"), PIXELS)
