"""Detect in a video: a line of JSON for each frame as it goes, and the annotated video when all frames are done.

The lines are all that a kill has to leave: the annotated video is drawn from them and from the video itself, so nothing
of it is lost, and `--resume` goes on behind the last line. A camera's frames come only once, so they are drawn at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from detector.categories import CategoryMap
from detector.disk import put_in_place, sync_file
from detector.drawing.annotate import draw_detections
from detector.inference.batches import in_batches
from detector.inference.detections import Detections
from detector.inference.video.frame_log import FrameLog, read_lines
from detector.inference.video.frames import Video, read_frames
from detector.inference.video.render import Writer, make_writer

Detect = Callable[[Sequence[np.ndarray]], list[Detections]]


@dataclass(frozen=True)
class VideoResult:
    """What was found. frames: that have a line. resumed: how many of them an earlier run had written. objects: in all
    frames of this run. missing: frames that the file announced and that could not be read."""

    frames: int
    resumed: int
    objects: int
    missing: int


def detect_video(
    video: Video,
    detect: Detect,
    categories: CategoryMap,
    log: FrameLog,
    annotated: Path | None,
    resume: bool = False,
    progress: Callable[[int], object] = lambda _: None,
) -> VideoResult:
    """Write the lines of a video's frames, then its annotated copy.

    Args:
        detect: pictures [H, W, 3] uint8 RGB to the detections of each.
        categories: of the detections.
        log: where the lines go; it says which frames, and how many are detected in together.
        annotated: an .mp4, or None for none.
        resume: go on with what an earlier run has written.
        progress: called with the number of frames that are done, now and then.

    Raises:
        UserError: the video cannot be read, or something cannot be written.
    """
    log.start(resume and not video.is_camera)
    resumed, objects = log.lines, 0
    live = AnnotatedVideo(annotated if video.is_camera else None, video.rate / log.every, categories)
    with log, live:
        for batch in in_batches(read_frames(video, log.every, log.next_frame), log.batch_size):
            for frame, detections in zip(batch, detect([frame.image for frame in batch]), strict=True):
                lines = described(detections)
                log.append(frame.number, frame.number / video.rate, lines)
                live.draw(frame.image, lines)
                objects += len(detections)
            progress(log.lines)
    if annotated is not None and not video.is_camera:
        with AnnotatedVideo(annotated, video.rate / log.every, categories) as drawn:
            for frame, line in zip(read_frames(video, log.every), read_lines(log.path), strict=False):
                drawn.draw(frame.image, line["detections"])
    expected = -(-video.announced // log.every)
    return VideoResult(log.lines, resumed, objects, 0 if video.is_camera else max(0, expected - log.lines))


def described(detections: Detections) -> list[dict[str, Any]]:
    """Detections as a line holds them: category_id, bbox [x, y, width, height], score and category_name."""
    return [
        {key: value for key, value in one.items() if key != "image_id"} | {"category_name": name}
        for one, name in zip(detections.to_coco(0), detections.names, strict=True)
    ]


class AnnotatedVideo:
    """An annotated video that gets its name when it is whole; a context.

    Args:
        path: an .mp4, or None: nothing is drawn.
        rate: frames a second.
        categories: of the detections.
    """

    def __init__(self, path: Path | None, rate: float, categories: CategoryMap) -> None:
        self.path = path
        self.rate = rate
        self.categories = categories
        self.writer: Writer | None = None

    @property
    def partial(self) -> Path:
        """Where it is until it is whole."""
        assert self.path is not None
        return self.path.with_name(f".{self.path.stem}.partial.mp4")

    def draw(self, image: np.ndarray, detections: Sequence[Mapping[str, Any]]) -> None:
        """Append a frame [H, W, 3] uint8 RGB with its detections, as `described` has them."""
        if self.path is None:
            return
        if self.writer is None:
            self.writer = make_writer(self.partial, self.rate, (image.shape[0], image.shape[1]))
        boxes = torch.tensor([one["bbox"] for one in detections], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = torch.tensor([self.categories.label_of(one["category_id"]) for one in detections], dtype=torch.int64)
        scores = torch.tensor([one["score"] for one in detections])
        self.writer.write(draw_detections(image, boxes, labels, scores, self.categories.names))

    def __enter__(self) -> "AnnotatedVideo":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.writer is None or self.path is None:
            return
        self.writer.close()
        sync_file(self.partial)
        put_in_place(self.partial, self.path)
