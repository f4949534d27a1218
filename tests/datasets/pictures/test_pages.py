"""Files of several pages."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from detector.datasets.pictures.pages import _warn, _warn_of_frames
from detector.datasets.pictures.read import read_image


def tiff(second_is_smaller_copy: bool | None, kind: type = np.uint8) -> bytes:
    """Two pages, or one for None; the first has the value 7 everywhere."""
    first, second = (Image.fromarray(np.full((6, 8), value, kind)) for value in (7, 90))
    stream = io.BytesIO()
    if second_is_smaller_copy is None:
        first.save(stream, "TIFF")
        return stream.getvalue()
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[254] = int(second_is_smaller_copy)
    second.encoderinfo = {"tiffinfo": info}
    first.save(stream, "TIFF", save_all=True, append_images=[second])
    return stream.getvalue()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize(("second", "said"), [(None, 0), (True, 0), (False, 1)])
def test_pages_that_are_left_out_are_said_once(
    second: bool | None, said: int, kind: type, caplog: pytest.LogCaptureFixture
) -> None:
    _warn.cache_clear()
    for _ in range(2):
        assert (read_image(tiff(second, kind), bit_depth=8) == 7).all()
    assert sum("several pages" in message for message in caplog.messages) == said


def test_a_broken_second_page_spoils_nothing(caplog: pytest.LogCaptureFixture) -> None:
    _warn.cache_clear()
    for end in (len(tiff(None)), len(tiff(None)) + 20, -60):
        assert (read_image(tiff(False)[:end]) == 7).all()
    assert sum("several pages" in message for message in caplog.messages) == 1  # of the last, whose table is there


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_frames_that_are_left_out_are_said_once(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    _warn_of_frames.cache_clear()
    first, second = Image.new("RGB", (8, 6)), Image.new("RGB", (8, 6), (255, 0, 0))
    first.save(tmp_path / "still", kind)
    read_image(tmp_path / "still")
    assert caplog.messages == []
    for name in ("moving", "another"):
        first.save(tmp_path / name, kind, save_all=True, append_images=[second])
        assert read_image(tmp_path / name).max() < 10
    assert len(caplog.messages) == 1
    assert "moving: is an animation, of which the first frame is read" in caplog.messages[0]
