"""The frames of a video file or a camera, in order, by OpenCV."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from detector.errors import UserError
from detector.opencv import undisturbed

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mts")
_CAMERA = re.compile(r"camera:(\d+)")
USUAL_RATE = 25.0  # frames a second of what does not say


class Frame(NamedTuple):
    """One frame: its number from 0, and [H, W, 3] uint8 RGB, upright."""

    number: int
    image: np.ndarray


@dataclass(frozen=True)
class Video:
    """A video that can be read.

    source: a file, or camera:N. rate: frames a second. announced: how many frames the file says it has; 0 for unknown.
    """

    source: str
    rate: float
    announced: int

    @property
    def is_camera(self) -> bool:
        """Whether its frames come only once."""
        return is_camera(self.source)


def is_camera(word: str | Path) -> bool:
    """Whether a word is camera:N."""
    return _CAMERA.fullmatch(str(word)) is not None


def is_video(word: str | Path) -> bool:
    """Whether a word means a video, as far as it says: by the suffix of its name, or camera:N."""
    return str(word).lower().endswith(VIDEO_SUFFIXES) or is_camera(word)


def check_name(path: str) -> None:
    """Raise UserError for a path that OpenCV, which crashes at it, cannot be given: one that is not Unicode."""
    if any("\ud800" <= character <= "\udfff" for character in path):
        raise UserError(f"{path}: a video's path must be Unicode (UTF-8); rename the file or folder.")


def open_video(source: str | Path) -> Video:
    """Look at a video's header. Raises UserError where there is no such file or camera, or no video in it."""
    capture = _capture(str(source))
    try:
        rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    finally:
        capture.release()
    usable = 0 < rate <= 1000
    return Video(str(source), rate if usable else USUAL_RATE, max(0, int(count)) if 0 < count < 2**40 else 0)


def read_frames(video: Video, every: int = 1, start: int = 0) -> Iterator[Frame]:
    """Every `every`-th frame from number `start` on, a multiple of `every`; others are passed over, not sought.

    To seek would be faster and, in many files, lead to another frame.

    Raises:
        UserError: it cannot be opened.
    """
    capture = _capture(video.source)
    try:
        number = 0
        while capture.grab():
            if number >= start and number % every == 0:
                read, image = capture.retrieve()
                if not read:
                    return
                yield Frame(number, np.ascontiguousarray(image[..., ::-1]))
            number += 1
    finally:
        capture.release()


@contextmanager
def _silent() -> Iterator[None]:
    """Inside, OpenCV and FFmpeg keep to themselves what is wrong with a source; our own sentence says enough."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when OpenCV first opens a video
    levels = getattr(cv2.utils, "logging", None)  # missing in some builds
    before = levels.getLogLevel() if levels else None
    try:
        if levels:
            levels.setLogLevel(levels.LOG_LEVEL_SILENT)
        yield
    finally:
        if levels:
            levels.setLogLevel(before)


def _capture(source: str) -> cv2.VideoCapture:
    camera = _CAMERA.fullmatch(source)
    check_name(source)
    if camera is None and not os.path.isfile(source):
        raise UserError(f"{source}: there is no such video; check the path.")
    if camera is None and os.path.getsize(source) == 0:
        raise UserError(f"{source}: cannot be read as a video, since it is empty; replace the file.")
    with undisturbed(), _silent():
        capture = cv2.VideoCapture(int(camera[1])) if camera else cv2.VideoCapture(source)
    if not capture.isOpened():
        capture.release()
        remedy = "check that it is connected and not in use" if camera else "replace the file, or convert it to .mp4"
        raise UserError(f"{source}: cannot be read as a video; {remedy}.")
    return capture
