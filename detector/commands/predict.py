"""Detect objects in pictures: a table per picture, annotated pictures, and detections.json."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from detector import command
from detector.commands.tile_words import add_tile_arguments, tiling_of
from detector.errors import UserError
from detector.printing import columns_of, log_to_screen, pad, printable

if TYPE_CHECKING:
    from detector.inference.detections import Detections
    from detector.inference.inputs import Input
    from detector.inference.output_folder import OutputFolder
    from detector.inference.predictor import Predictor
    from detector.inference.tiles import Tiling

PUBLISHED_DEFAULT = "R101-C4-3x"

EXAMPLES = """examples:
  {program} photo.jpg                        with the newest finished run under output/
  {program} photo.jpg --weights R101-C4-3x   with published COCO weights (downloaded once)
  {program} holiday/ 'scans/*.tif' --weights output/mine/model_best.safetensors --score-threshold 0.7
  {program} photo.jpg --weights model_final.pth --config config.yaml    another framework's checkpoint
  {program} aerial.tif --tile 800            tile by tile, for small objects in large pictures
  {program} street.mp4 --every 5             a video: a line of JSON a frame, and street.annotated.mp4
  {program} street.mp4 --every 5 --resume    after a kill: goes on behind the last line
  {program} photo.jpg input.min_size_test=1200 input.max_size_test=2000   settings, here for small objects
  {program} photo.jpg --augment              looks twice, the second time at the mirrored picture: slower, more AP
  {program} photo.jpg --weights a/model_best.safetensors b/model_best.safetensors   an ensemble

A folder stands for the pictures in it and below it. What an earlier call wrote into the output folder is deleted first.
The exit code is 0, or 2 where an input could not be used."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="pictures, videos, folders, globs such as '*.jpg', addresses (https://…), lists of inputs (.txt), - for a "
        "picture on standard input, camera:0; or key=value to change one of the weights' settings",
    )
    parser.add_argument(
        "--weights",
        action="append",
        help="a .safetensors of ours, a published name, or another framework's file with its --config (default: the "
        f"newest finished run under output/, else {PUBLISHED_DEFAULT}); several detect together",
    )
    parser.add_argument("--config", help="config of another framework's weights")
    parser.add_argument("--boxes-only", action="store_true", help="of a Mask or Keypoint R-CNN, its box branch")
    parser.add_argument(
        "--output", type=Path, default=Path("output/infer"), help="folder to write (default: %(default)s)"
    )
    parser.add_argument(
        "--score-threshold", type=command.fraction, default=0.5, help="leave out what scores less (%(default)s)"
    )
    command.add_network_arguments(parser)
    command.add_augment_argument(parser)
    add_tile_arguments(parser)
    parser.add_argument("--every", type=command.positive, default=1, metavar="N", help="of a video, every N-th frame")
    parser.add_argument("--resume", action="store_true", help="go on with videos where an earlier call was stopped")


@contextmanager
def leave_on_sigterm() -> Iterator[None]:
    """Inside, SIGTERM ends the process as Ctrl-C does: through every `finally`, with exit code 143."""

    def leave(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # Python's signals are the main thread's
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@leave_on_sigterm()
def run(args: argparse.Namespace) -> int:
    """Detect in every picture, print and write; returns the exit code, 2 where an input could not be used."""
    from tempfile import TemporaryDirectory

    from detector.inference.gather import gather

    with TemporaryDirectory(prefix="detector-") as fetched:
        args.inputs = gather(args.inputs, Path(fetched))
        return predict_all(args)


def predict_all(args: argparse.Namespace) -> int:
    """`run`, where all inputs are files, folders and patterns."""
    from detector.weights.published.catalogue import find_weights

    tiling = tiling_of(args)
    for one in args.weights or ():
        find_weights(one)  # before anything that takes time

    from detector.datasets.pictures.folders import unread_files
    from detector.inference.augmented import describe_looks
    from detector.inference.inputs import find_inputs, name_outputs
    from detector.inference.load import load
    from detector.inference.output_folder import OutputFolder
    from detector.inference.video.frames import is_video, open_video
    from detector.inference.void import void_detection_settings

    log_to_screen()  # what fetching and converting weights has to say
    settings = [word for word in args.inputs if is_setting(word)]
    words = [word for word in args.inputs if not is_setting(word)]
    words, videos = [word for word in words if not is_video(word)], [word for word in words if is_video(word)]
    inputs, unused = find_inputs(words, skip=args.output) if words or not videos else ([], [])
    outputs = name_outputs(inputs, args.output)
    if (args.resume or args.every > 1) and not videos:
        raise UserError("--resume and --every are for videos, and there is none among the inputs.")
    opened = [open_video(word) for word in videos]  # before anything that takes time
    folder = OutputFolder(args.output)
    folder.make()
    weights, why = args.weights, ""
    if not weights:
        chosen, why = choose_weights(Path("output"))
        weights = [chosen]
    print(f"weights    {', '.join(map(printable, weights))}{why}", flush=True)
    predictor = load(
        weights, args.config, args.device, settings, not args.plain, args.precision, args.compile, args.boxes_only
    )
    batch_size = args.batch_size or predictor.default_batch_size
    print(f"model      {describe(predictor)}")
    print(f"device     {predictor.device}, {args.precision}, {batch_size} at a time")
    detecting = predictor.detecting(args.augment or None)
    if looks := describe_looks(detecting.network):
        print(f"augment    {looks}")
    for line in void_detection_settings(predictor.config.model.detection, args.augment):
        print(f"void       {line}")
    if tiling:
        print(f"tiles      {tiling.size} × {tiling.size} pixels, {tiling.overlap:.0%} shared, and the whole picture")
    if videos:
        print(f"videos     {', '.join(map(printable, videos))}" + f", frame by {args.every}" * (args.every > 1))
    print(f"input      {len(inputs)} pictures, scores from {args.score_threshold:g}")
    for word in filter(os.path.isdir, args.inputs):
        for line in unread_files(word):
            print(f"not read   {printable(word)}: {printable(line)}")
    own_threshold = predictor.config.model.detection.score_threshold
    if args.score_threshold < own_threshold:
        print(f"           (the model gives scores above {own_threshold:g}: model.detection.score_threshold)")
    deleted = folder.clear([one.path for one in inputs])
    remark = f" ({deleted} pictures of an earlier prediction deleted)" if deleted else ""
    print(f"output     {printable(args.output)}{remark}\n", flush=True)
    pictures = list(zip(inputs, outputs, strict=True))
    augment = args.augment or None
    left_out = []
    if pictures:
        left_out = detect_and_write(predictor, pictures, folder, args.score_threshold, batch_size, augment, tiling)
    for video in opened:
        from detector.commands.predict_video import predict_video

        predict_video(predictor, video, args, batch_size)
    if reasons := [*unused, *left_out]:
        count = len(inputs) + len(unused)
        print(f"error: {len(reasons)} of {count} inputs could not be used:", *reasons, sep="\n  ", file=sys.stderr)
        return command.EXIT_USER_ERROR
    return 0


def detect_and_write(
    predictor: Predictor,
    pictures: Sequence[tuple[Input, Path]],
    folder: OutputFolder,
    score_threshold: float,
    batch_size: int,
    augment: bool | None = None,
    tiling: Tiling | None = None,
) -> list[str]:
    """Detect in the pictures, each with the file for its annotated copy. Returns why pictures were left out."""
    from tqdm import tqdm

    from detector.inference.stream import detect_all
    from detector.inference.tiles import detect_files_tiled, fitted

    left_out: list[str] = []
    results: list[dict[str, Any]] = []
    start = time.perf_counter()
    progress = tqdm(total=len(pictures), unit="picture", disable=None if len(pictures) > 1 else True)
    done = 0
    try:
        paths = [one.path for one, _ in pictures]
        if tiling is None:
            outcomes = detect_all(predictor, paths, score_threshold, batch_size, augment)
        else:
            outcomes = detect_files_tiled(predictor, paths, tiling, score_threshold, batch_size, augment)
        for image_id, ((one, output), outcome) in enumerate(zip(pictures, outcomes, strict=True), start=1):
            if isinstance(outcome, UserError):
                left_out.append(str(outcome))
                progress.write(f"left out: {outcome}", file=sys.stderr)
            else:
                image, detections = outcome
                progress.write(table(one.name, detections), file=sys.stdout)
                # First the results: no picture without its detections.
                results += describe_results(detections, image_id, one.name)
                folder.save_picture(output, fitted(detections, (image.shape[0], image.shape[1])).draw(image))
                done += 1
            progress.update()
    finally:  # when interrupted too: the detections until then are kept, as a whole file
        progress.close()
        folder.save_results(results)
        seconds = time.perf_counter() - start
        where = printable(folder.folder)
        print(f"{done} of {len(pictures)} pictures, {len(results)} objects, {seconds:.1f} s; see {where}")
    return left_out


def is_setting(word: str) -> bool:
    """Whether a word is written as key.path=value, and no file has that name."""
    return re.match(r"(model|input|data|train)\.[a-z0-9_.]+=", word) is not None and not Path(word).exists()


def choose_weights(runs: Path) -> tuple[str, str]:
    """The best model of the newest finished training run below `runs`, else the published one; and why, for people."""
    from detector.training.run.output import BEST_MODEL, FINAL_MODEL

    finished = sorted(runs.glob(f"**/{FINAL_MODEL}"), key=lambda path: path.stat().st_mtime)
    if not finished:
        return PUBLISHED_DEFAULT, f" (published; no finished training run under {runs}/)"
    best = finished[-1].with_name(BEST_MODEL)
    return str(best if best.is_file() else finished[-1]), f" (newest finished run under {runs}/)"


def describe(predictor: Predictor) -> str:
    """The network and its classes in one line."""
    names = predictor.categories.names
    listed = ", ".join(printable(name, limit=40) for name in names[:6]) + (", …" if len(names) > 6 else "")
    return f"Faster R-CNN, {predictor.config.model.network}, {len(names)} classes ({listed})"


def table(name: str, detections: Detections) -> str:
    """The detections of one picture, for people: aligned columns, boxes in pixels of the original image."""
    height, width = detections.image_size
    lines = [f"{printable(name)}  {width} × {height}, {len(detections)} found"]
    if len(detections):
        names = [printable(class_name, limit=60) for class_name in detections.names]
        column = max(columns_of(text) for text in ("class", *names))
        lines.append(f"  {pad('class', column)}  score {'x1':>8} {'y1':>8} {'x2':>8} {'y2':>8}")
        for class_name, score, box in zip(names, detections.scores.tolist(), detections.boxes.tolist(), strict=True):
            lines.append(f"  {pad(class_name, column)}  {score:.3f} " + " ".join(f"{value:8.1f}" for value in box))
    return "\n".join(lines) + "\n"


def describe_results(detections: Detections, image_id: int, name: str) -> list[dict[str, Any]]:
    """COCO results, boxes [x, y, width, height] in pixels of the original image, with file and category names added."""
    return [
        result | {"file_name": name, "category_name": category_name}
        for result, category_name in zip(detections.to_coco(image_id), detections.names, strict=True)
    ]
