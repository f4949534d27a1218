"""The part of `predict` that detects in videos."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from detector.inference.predictor import Predictor
from detector.inference.video.detect_video import detect_video
from detector.inference.video.frame_log import FrameLog
from detector.inference.video.frames import Video
from detector.printing import printable


def predict_video(
    predictor: Predictor, video: Video, args: argparse.Namespace, made: Mapping[str, Any], batch_size: int
) -> None:
    """Detect in a video, and print what came of it.

    Args:
        made: what the detections are made with; see `made_with`.

    Raises:
        UserError: the video cannot be read, or something cannot be written; an earlier run to go on with was of
            other settings.
    """
    name = Path(video.source).name.replace(":", "-")
    settings = {"video": name, "every": args.every, **made}
    lines, annotated = args.output / f"{name}.jsonl", args.output / f"{Path(name).stem}.annotated.mp4"
    log = FrameLog(lines, settings, args.every, batch_size)
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
            annotated,
            args.resume,
            lambda done: progress.update(done - progress.n),
        )
    before = f", {result.resumed} of them by an earlier run" if result.resumed else ""
    print(f"{printable(name)}: {result.frames} frames{before}, {result.objects} objects; see {printable(lines)}")
    if result.missing:
        cut = f"announces {result.missing} more frames than can be read: it is cut short or damaged"
        print(f"warning: {printable(name)} {cut}.", file=sys.stderr)
