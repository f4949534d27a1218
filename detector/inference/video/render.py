"""Annotated videos as .mp4: by PyAV in H.264 where it is installed, which browsers play, else by OpenCV in MPEG-4."""

import importlib.util
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from detector.errors import UserError
from detector.structures import Size


class Writer(Protocol):
    """Takes frames [H, W, 3] uint8 RGB of one size."""

    def write(self, image: np.ndarray) -> None:
        """Append a frame."""

    def close(self) -> None:
        """Finish the file, which is whole then."""


def make_writer(path: Path, rate: float, size: Size) -> Writer:
    """A writer of an .mp4. Raises UserError where it cannot be made."""
    kind = H264Writer if importlib.util.find_spec("av") is not None else MPEG4Writer
    return kind(path, rate, size)


class MPEG4Writer:
    """Writes by OpenCV.

    Args:
        path: ends with .mp4.
        rate: frames a second.
        size: (height, width).
    """

    def __init__(self, path: Path, rate: float, size: Size) -> None:
        self.writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (size[1], size[0]))
        if not self.writer.isOpened():
            raise UserError(f"{path}: cannot be written as a video; choose another --output.")

    def write(self, image: np.ndarray) -> None:
        """Append a frame [H, W, 3] uint8 RGB."""
        self.writer.write(np.ascontiguousarray(image[..., ::-1]))

    def close(self) -> None:
        """Finish the file."""
        self.writer.release()


class H264Writer:
    """Writes by PyAV; arguments are those of `MPEG4Writer`. An odd row or column at the end is left out."""

    def __init__(self, path: Path, rate: float, size: Size) -> None:
        import av

        try:
            self.container: Any = av.open(str(path), "w", format="mp4")
            self.stream: Any = self.container.add_stream("libx264", rate=Fraction(rate).limit_denominator(60_000))
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be written as a video ({error}); choose another --output.") from None
        self.height, self.width = (max(2, side - side % 2) for side in size)
        self.stream.height, self.stream.width, self.stream.pix_fmt = self.height, self.width, "yuv420p"

    def write(self, image: np.ndarray) -> None:
        """Append a frame [H, W, 3] uint8 RGB."""
        import av

        part = np.ascontiguousarray(image[: self.height, : self.width])
        self.container.mux(self.stream.encode(av.VideoFrame.from_ndarray(part, format="rgb24")))

    def close(self) -> None:
        """Finish the file."""
        self.container.mux(self.stream.encode())
        self.container.close()
