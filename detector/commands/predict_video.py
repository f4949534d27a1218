"""The part of `predict` that detects in videos."""

import argparse
import hashlib
import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from detector.errors import UserError
from detector.inference.inputs import VideoOutput
from detector.inference.predictor import Predictor
from detector.inference.video.detect_video import detect_video
from detector.inference.video.frame_log import FrameLog
from detector.inference.video.frames import Video
from detector.printing import printable

BEGINNING = 2**20  # bytes: pictures too, not only what many videos have in common


def predict_video(
    predictor: Predictor,
    video: Video,
    output: VideoOutput,
    args: argparse.Namespace,
    made: Mapping[str, Any],
    batch_size: int,
) -> int:
    """Detect in a video, and print what came of it; returns the number of its frames.

    Args:
        output: the files to write.
        made: what the detections are made with; see `made_with`.

    Raises:
        UserError: the video cannot be read, or something cannot be written; an earlier run to go on with was of
            other settings.
    """
    name = output.lines.stem
    settings = {"video": name, "begins with": beginning(video), "every": args.every, **made}
    log = FrameLog(output.lines, settings, args.every, batch_size)
    tiles = {} if args.tile is None else {"tile": args.tile, "tile_overlap": args.tile_overlap or 0.2}
    total = -(-video.announced // args.every) or None
    with tqdm(total=total, unit="frame", disable=None, desc=name) as progress:
        result = detect_video(
            video,
            lambda images: predictor.predict(
                list(images), args.score_threshold, batch_size, augment=args.augment or None, **tiles
            ),
            predictor.categories,
            log,
            output.annotated,
            args.resume,
            lambda done: progress.update(done - progress.n),
        )
    before = f", {result.resumed} of them by an earlier run" if result.resumed else ""
    print(f"{printable(name)}: {result.frames} frames{before}, {result.objects} objects; see {printable(output.lines)}")
    if result.missing:
        cut = f"announces {result.missing} more frames than can be read: it is cut short or damaged"
        print(f"warning: {printable(name)} {cut}.", file=sys.stderr)
    return result.frames


def beginning(video: Video) -> str:
    """A digest of the beginning of a file: by this another video of the same name is told. Empty for a camera."""
    if video.is_camera:
        return ""
    try:
        with open(video.source, "rb") as file:
            return hashlib.sha256(file.read(BEGINNING)).hexdigest()
    except OSError as error:
        raise UserError(f"{video.source}: cannot be read ({error.strerror}); check the file.") from None
