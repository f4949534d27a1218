"""The part of `predict` that finds out what the words of its command line stand for, before anything is loaded."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from detector.errors import UserError

if TYPE_CHECKING:
    from detector.inference.gather import Gathered
    from detector.inference.inputs import Input, VideoOutput
    from detector.inference.video.frames import Video


@dataclass(frozen=True)
class Given:
    """What the words of the command line stand for.

    gathered: the words. inputs: pictures; outputs: the file for the annotated copy of each.
    unused: a sentence for each word that stands for nothing. videos: files and cameras, each with what is written about
    it. settings: key=value.
    """

    gathered: Gathered
    inputs: list[Input]
    outputs: list[Path]
    unused: list[str]
    videos: list[tuple[Video, VideoOutput]]
    settings: list[str]


def look_at(args: argparse.Namespace, fetched: Path) -> Given:
    """Find the inputs, and open the videos; what comes from elsewhere is put into the folder `fetched`.

    Raises:
        UserError: there is no input that can be used, or words do not go together with those that there are.
    """
    from detector.inference.gather import gather
    from detector.inference.inputs import find_inputs, name_outputs, name_videos, split_videos
    from detector.inference.video.frames import open_video

    gathered = gather(args.inputs, fetched)
    settings = [word for word in gathered.words if is_setting(word)]
    words, video_words = split_videos([word for word in gathered.words if not is_setting(word)])
    inputs: list[Input] = []
    unused = list(gathered.missed)
    if words or not video_words:
        try:
            inputs, unused = find_inputs(words, args.output, gathered.missed)
        except UserError as error:
            if not video_words:
                raise
            unused = [str(error)]
    inputs = [replace(one, name=gathered.called(one.name)) for one in inputs]
    if (args.resume or args.every > 1) and not video_words:
        raise UserError(
            "--resume and --every are for videos, and there is none among the inputs (pictures: --skip-done)."
        )
    if args.skip_done and not inputs:
        raise UserError(
            "--skip-done is for pictures, and there is none among the inputs; --resume goes on with videos."
        )
    videos: list[tuple[Video, VideoOutput]] = []
    sources = list(dict.fromkeys(video_words))
    for source, output in zip(sources, name_videos(sources, args.output), strict=True):
        try:
            videos.append((open_video(source), output))  # before anything that takes time
        except UserError as error:
            unused.append(str(error).replace(source, gathered.called(source)))
    if not inputs and not videos:
        raise UserError(" ".join(unused))
    return Given(gathered, inputs, name_outputs(inputs, args.output), unused, videos, settings)


def is_setting(word: str) -> bool:
    """Whether a word is written as key.path=value, and no file has that name."""
    return re.match(r"(model|input|data|train)\.[a-z0-9_.]+=", word) is not None and not os.path.exists(word)
