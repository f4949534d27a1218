"""Annotated videos as .mp4: by PyAV in H.264 where it is installed, which browsers play, else by OpenCV in MPEG-4."""

import importlib.util
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from detector.errors import UserError
from detector.inference.video.frames import check_name, open_video, read_frames
from detector.structures import Size

MAX_DENOMINATOR = 60_000  # of a rate: exact for 30000/1001 and the like


class Writer(Protocol):
    """Takes frames [H, W, 3] uint8 RGB of one size."""

    def write(self, image: np.ndarray) -> None:
        """Append a frame."""

    def close(self) -> None:
        """Finish the file, which is whole then."""


def make_writer(path: Path, rate: float, size: Size) -> Writer:
    """A writer of an .mp4. Raises UserError where it cannot be made."""
    check_name(str(path))
    kind = H264Writer if has_pyav() else MPEG4Writer
    return kind(path, rate, size)


def has_pyav() -> bool:
    """Whether PyAV is installed, the extra `video`."""
    return importlib.util.find_spec("av") is not None


def join(parts: Sequence[Path], path: Path, rate: float) -> None:
    """Write one .mp4 with the frames of several, one after the other.

    Args:
        parts: by the writers of this file, all of one size and rate.
        path: of the new file.
        rate: frames a second.

    Their packets are copied where PyAV is installed and wrote them all; else their frames are written once more, which
    costs a little of their sharpness.

    Raises:
        UserError: the file cannot be written.
    """
    if has_pyav() and copy_packets(parts, path, rate):
        return
    writer: Writer | None = None
    for part in parts:
        for frame in read_frames(open_video(part)):
            if writer is None:
                writer = make_writer(path, rate, (frame.image.shape[0], frame.image.shape[1]))
            writer.write(frame.image)
    if writer is not None:
        writer.close()


def copy_packets(parts: Sequence[Path], path: Path, rate: float) -> bool:
    """`join` without decoding; False, and no whole file, where the parts are not coded alike. PyAV is installed."""
    import av

    step = 1 / Fraction(rate).limit_denominator(MAX_DENOMINATOR)
    coded = None
    number = 0  # of the next frame; the writers put frames in the order in which they are shown
    with av.open(str(path), "w", format="mp4") as joined:
        stream: Any = None
        for part in parts:
            with av.open(str(part)) as container:
                source = container.streams.video[0]
                own = (source.codec_context.name, source.codec_context.extradata, source.width, source.height)
                if coded not in (None, own) or own[0] != "h264":
                    return False
                if stream is None:
                    coded, stream = own, joined.add_stream_from_template(source)
                for packet in container.demux(source):
                    if packet.size:
                        packet.time_base = step
                        packet.pts = packet.dts = number
                        packet.duration = 1
                        packet.stream = stream
                        joined.mux(packet)
                        number += 1
    return True


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
            self.stream: Any = self.container.add_stream(
                "libx264", rate=Fraction(rate).limit_denominator(MAX_DENOMINATOR)
            )
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be written as a video ({error}); choose another --output.") from None
        self.height, self.width = (max(2, side - side % 2) for side in size)
        self.stream.height, self.stream.width, self.stream.pix_fmt = self.height, self.width, "yuv420p"
        # No frame refers to a later one: so packets lie in the order of their frames, and can be joined to others.
        self.stream.codec_context.max_b_frames = 0

    def write(self, image: np.ndarray) -> None:
        """Append a frame [H, W, 3] uint8 RGB."""
        import av

        part = np.ascontiguousarray(image[: self.height, : self.width])
        self.container.mux(self.stream.encode(av.VideoFrame.from_ndarray(part, format="rgb24")))

    def close(self) -> None:
        """Finish the file."""
        self.container.mux(self.stream.encode())
        self.container.close()
