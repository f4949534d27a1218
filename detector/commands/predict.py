"""Detect objects in pictures: a table per picture, annotated pictures, and detections.json."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from detector import command
from detector.commands.detecting_words import describe_detecting
from detector.commands.predict_inputs import Given, is_setting, look_at
from detector.commands.tile_words import add_tile_arguments, tiling_of
from detector.printing import log_to_screen, printable

if TYPE_CHECKING:
    from detector.inference.predictor import Predictor

PUBLISHED_DEFAULT = "R101-C4-3x"
PATIENCE = timedelta(days=30)  # of several processes with the slowest of them, which may have a long video
GO_ON = "--skip-done goes on with pictures, --resume with videos."

EXAMPLES = """examples:
  {program} photo.jpg                        with the newest finished run under output/
  {program} photo.jpg --weights R101-C4-3x   with published COCO weights (downloaded once)
  {program} holiday/ 'scans/*.tif' --weights output/mine/model_best.safetensors --score-threshold 0.7
  {program} photo.jpg --weights model_final.pth --config config.yaml    another framework's checkpoint
  {program} aerial.tif --tile 800            tile by tile, for small objects in large pictures
  {program} street.mp4 --every 5             a video: a line of JSON a frame, and street.annotated.mp4
  {program} street.mp4 --every 5 --resume    after a kill: goes on behind the last line
  {program} holiday/ --skip-done             after a kill, or with new pictures: does what is not done yet
  torchrun --nproc-per-node=8 {launched} holiday/   eight GPUs share the pictures out; the same files as of one
  {program} photo.jpg input.min_size_test=1200 input.max_size_test=2000   settings, here for small objects
  {program} photo.jpg --augment              looks twice, the second time at the mirrored picture: slower, more AP
  {program} photo.jpg --weights a/model_best.safetensors b/model_best.safetensors   an ensemble

A folder stands for the pictures in it and below it. Pictures that an earlier call wrote into the output folder are
deleted first, unless --skip-done or --resume goes on with it; videos are replaced by those of their name.
The exit code is 0, or 2 where an input could not be used."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="pictures, videos, folders, globs such as '*.jpg', addresses (https://…), lists of inputs (.txt), - for a "
        "picture or video on standard input, camera:0; or key=value to change one of the weights' settings",
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
    parser.add_argument(
        "--skip-done",
        action="store_true",
        help="leave pictures alone that an earlier call with the same weights and settings has done; keep its results",
    )


@contextmanager
def leave_on_signals() -> Iterator[None]:
    """Inside, SIGTERM, and SIGHUP of a terminal that closes, end the process as Ctrl-C does: through every `finally`.

    The exit code is 143 or 129. A SIGHUP that is ignored, as under nohup, stays so.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # Python's signals are the main thread's
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    handled = [number for number in numbers if before[number] != signal.SIG_IGN]
    for number in handled:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])


@leave_on_signals()
def run(args: argparse.Namespace) -> int:
    """Detect in every picture, print and write; returns the exit code, 2 where an input could not be used.

    Under torchrun every process calls this.
    """
    from detector.inference.asked import check_asked

    tiling_of(args)
    settings = [word for word in args.inputs if is_setting(word)]
    check_asked(args.weights or (), args.config, settings, not args.plain, args.precision, args.compile)

    from tempfile import TemporaryDirectory

    from detector import process_group

    try:
        args.device = str(process_group.start(args.device, PATIENCE))
        with (
            TemporaryDirectory(prefix="detector-") as fetched,
            process_group.explain_lost_process(GO_ON),
            ExitStack() as held,
        ):
            return predict_all(args, process_group.on_main(lambda: look_at(args, Path(fetched))), held)
    finally:
        process_group.stop()


def predict_all(args: argparse.Namespace, given: Given, held: ExitStack) -> int:
    """`run`, with what it is to look at; the output folder is this call's until `held` is closed."""
    from detector import process_group
    from detector.inference.load import load
    from detector.inference.made_with import made_with
    from detector.inference.output_folder import OutputFolder

    if process_group.is_main():
        log_to_screen()  # what fetching and converting weights has to say
    rank, processes = process_group.rank(), process_group.world_size()
    folder = OutputFolder(args.output, rank)
    process_group.on_main(lambda: folder.make(held))
    weights, why = args.weights, ""
    if not weights:
        chosen, why = process_group.on_main(lambda: choose_weights(Path("output")))
        weights = [chosen]
    say = print if process_group.is_main() else silent
    say(f"weights    {', '.join(map(printable, weights))}{why}", flush=True)
    predictor = load(
        weights, args.config, args.device, given.settings, not args.plain, args.precision, args.compile, args.boxes_only
    )
    made = made_with(
        weights,
        predictor.config,
        given.settings,
        args.score_threshold,
        predictor.precision,
        args.augment,
        tiling_of(args),
    )
    batch_size = args.batch_size or predictor.default_batch_size
    say(*describe_run(args, given, predictor, batch_size), sep="\n")
    left_out: list[str] = []
    if given.inputs:
        from detector.commands.predict_pictures import PictureJob

        pictures = list(zip(given.inputs, given.outputs, strict=True))
        job = PictureJob(predictor, pictures, folder, args, batch_size, given.gathered.origins)
        say(f"output     {printable(args.output)}{job.prepare(made)}\n", flush=True)
        left_out = job.run()
    else:
        deleted = 0 if args.resume else process_group.on_main(folder.clear)
        remark = f" ({deleted} pictures of an earlier prediction deleted)" if deleted else ""
        say(f"output     {printable(args.output)}{remark}\n", flush=True)
    empty = []
    for video, output in given.videos[rank::processes]:
        from detector.commands.predict_video import predict_video

        if not predict_video(predictor, video, output, args, made, batch_size):
            name = given.gathered.called(video.source)
            empty.append(f"{name}: no frame of it can be read; replace the file, or convert it to .mp4.")
    if reasons := [*given.unused, *left_out, *chain.from_iterable(process_group.gather(empty))]:
        count = len(given.inputs) + len(given.videos) + len(given.unused)
        if process_group.is_main():
            print(f"error: {len(reasons)} of {count} inputs could not be used:", *reasons, sep="\n  ", file=sys.stderr)
        return command.EXIT_USER_ERROR
    return 0


def describe_run(args: argparse.Namespace, given: Given, predictor: Predictor, batch_size: int) -> list[str]:
    """What is about to be done, a line each, for people."""
    from detector.datasets.pictures.folders import unread_files

    detection = predictor.config.model.detection
    lines = [f"model      {describe(predictor)}"]
    detecting = predictor.detecting(args.augment or None)
    lines += describe_detecting(args, predictor, detecting, batch_size, 11, given.settings)
    if given.videos:
        frames = f", frame by {args.every}" * (args.every > 1)
        names = [printable(given.gathered.called(video.source)) for video, _ in given.videos]
        lines.append(f"videos     {', '.join(names)}{frames}")
    lines.append(f"input      {len(given.inputs)} pictures, scores from {args.score_threshold:g}")
    for word in filter(os.path.isdir, given.gathered.words):
        lines += [f"not read   {printable(word)}: {printable(line)}" for line in unread_files(word)]
    if args.score_threshold < detection.score_threshold:
        above = f"the model gives scores above {detection.score_threshold:g}"
        lines.append(f"           ({above}: model.detection.score_threshold)")
    return lines


def silent(*_words: object, **_how: object) -> None:
    """Print nothing: what processes other than the main one have to say about what all of them are about to do."""


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
