"""Videos under any name, and pictures that begin a little like them."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from detector.datasets.pictures.read import ImageError, read_image
from detector.datasets.pictures.suffixes import readable_formats
from detector.datasets.pictures.video_content import begins_as_video, holds_video


@pytest.mark.parametrize(("suffix", "codec"), [("avi", "MJPG"), ("mp4", "mp4v"), ("mov", "mp4v"), ("mkv", "MJPG")])
def test_a_video_is_one_under_any_name(tmp_path: Path, suffix: str, codec: str) -> None:
    writer = cv2.VideoWriter(str(tmp_path / f"clip.{suffix}"), cv2.VideoWriter.fourcc(*codec), 10.0, (64, 48))
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    path = (tmp_path / f"clip.{suffix}").rename(tmp_path / "clip.jpg")
    assert holds_video(path)
    with pytest.raises(ImageError, match=r"clip\.jpg: is a video in the place of a picture"):
        read_image(path)


@pytest.mark.parametrize(
    "head",
    [
        b"\0\0\0\x18ftypisom\0\0\x02\0",
        b"\0\0\0\x14ftypqt  ",
        b"\0\0\0\x14ftyp3gp4",
        b"\0\0\0\x08wide\0\0\x10\0mdat",
        b"\x1aE\xdf\xa3\x01\0\0\0",
        b"FLV\x01\x05",
        b"0&\xb2u\x8ef\xcf\x11\xa6\xd9",
        b"\0\0\x01\xba\x44",
        (b"G" + bytes(187)) * 3,
        (bytes(4) + b"G" + bytes(187)) * 3,
    ],
)
def test_beginnings_of_videos(head: bytes) -> None:
    assert begins_as_video(head[:512])


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\0\0\0\x1cftypheic\0\0\0\0",
        b"\0\0\0\x1cftypavis\0\0\0\0",
        b"\0\0\0\x18ftypcrx \0\0\0\1",
        b"RIFF\x10\0\0\0WEBPVP8 ",
        b"RIFF\x10\0\0\0WAVEfmt ",
        b"GIF89a" + bytes(500),
        b"the wide world of text",
    ],
)
def test_beginnings_of_other_files(head: bytes) -> None:
    assert not begins_as_video(head)


def test_no_picture_is_taken_for_a_video() -> None:
    for name in readable_formats():
        buffer = io.BytesIO()
        Image.new("RGB", (64, 48), (255, 0, 71)).save(buffer, name)
        assert not begins_as_video(buffer.getvalue()[:512]), name


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert not holds_video(tmp_path)
    assert not holds_video(tmp_path / "missing")
    assert not holds_video(Path("a\0b"))
