"""Detect in a video: a line of JSON for each frame as it goes, and an annotated video in pieces, joined at the end.

The lines come first. What a kill takes of the annotated video, its open piece, is drawn again from them and from the
video itself, so nothing is lost, and `--resume` goes on behind the last line.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from detector.categories import CategoryMap
from detector.inference.batches import in_batches
from detector.inference.detections import Detections
from detector.inference.video.annotated import PIECE, AnnotatedVideo, NoVideo
from detector.inference.video.frame_log import FrameLog, read_lines
from detector.inference.video.frames import Video, read_frames

Detect = Callable[[Sequence[np.ndarray]], list[Detections]]


@dataclass(frozen=True)
class VideoResult:
    """What was found. frames: that have a line. resumed: how many of them an earlier run had written. objects: in all
    of them. missing: frames that the file announced and that could not be read."""

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
    piece: int = PIECE,
) -> VideoResult:
    """Write the lines of a video's frames, then its annotated copy.

    Args:
        detect: pictures [H, W, 3] uint8 RGB to the detections of each.
        categories: of the detections.
        log: where the lines go; it says which frames, and how many are detected in together.
        annotated: an .mp4, or None for none.
        resume: go on with what an earlier run has written.
        progress: called with the number of frames that are done, now and then.
        piece: frames of the annotated video that are lost together at most.

    Raises:
        UserError: the video cannot be read, or something cannot be written.
    """
    log.start(resume and not video.is_camera)
    resumed = log.lines
    objects = sum(len(line["detections"]) for line in islice(read_lines(log.path), resumed))
    drawing: AnnotatedVideo | NoVideo = NoVideo()
    if annotated is not None:
        rate = video.rate / log.every
        drawing = AnnotatedVideo(annotated, rate, categories, keep_broken=video.is_camera, piece=piece)
    drawn = drawing.start(log.lines)
    with log, drawing:
        frames = read_frames(video, log.every, drawn * log.every)
        # The lines first: where they end, no frame has been taken that is still to be detected in.
        for line, frame in zip(islice(read_lines(log.path), drawn, resumed), frames, strict=False):
            drawing.draw(frame.image, line["detections"])
        for batch in in_batches(frames, log.batch_size):
            for frame, detections in zip(batch, detect([frame.image for frame in batch]), strict=True):
                lines = described(detections)
                log.append(frame.number, frame.number / video.rate, lines)
                drawing.draw(frame.image, lines)
                objects += len(detections)
            progress(log.lines)
    expected = -(-video.announced // log.every)
    return VideoResult(log.lines, resumed, objects, 0 if video.is_camera else max(0, expected - log.lines))


def described(detections: Detections) -> list[dict[str, Any]]:
    """Detections as a line holds them: category_id, bbox [x, y, width, height], score and category_name."""
    return [
        {key: value for key, value in one.items() if key != "image_id"} | {"category_name": name}
        for one, name in zip(detections.to_coco(0), detections.names, strict=True)
    ]
