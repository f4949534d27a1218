"""Detecting in whatever comes, one picture after another, without holding more than a batch of them."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from detector.errors import UserError
from detector.inference.batches import in_batches_alike
from detector.inference.gather import gather
from detector.inference.inputs import find_inputs, split_videos
from detector.inference.sources import Channels
from detector.inference.video.frames import open_video, read_frames


def pictures_in(source: Any, channels: Channels) -> Iterator[tuple[Any, Channels]]:
    """Every picture that a source stands for, as `predict` takes it, and the order of its colours.

    Args:
        source: a path or pattern of pictures, a folder, a list of paths (.txt), an address, a video or camera:N, whose
            frames are RGB arrays; any other form of a picture; or anything that gives such sources one by one.
        channels: of the arrays and tensors in it.

    Raises:
        UserError: while iterating, where something cannot be read.
    """
    if isinstance(source, (str, Path)):
        yield from ((picture, "rgb") for picture in _in_word(str(source)))
    elif isinstance(source, bytes) or not isinstance(source, Iterable) or hasattr(source, "shape"):
        yield source, channels
    else:
        for one in source:
            yield from pictures_in(one, channels)


def in_batches_of_one_order(
    pictures: Iterator[tuple[Any, Channels]], count: int
) -> Iterator[tuple[list[Any], Channels]]:
    """Neighbours of one order of colours, at most `count` together."""
    for pairs in in_batches_alike(pictures, count, key=lambda pair: pair[1]):
        yield [picture for picture, _ in pairs], pairs[0][1]


def _in_word(word: str) -> Iterator[Any]:
    with TemporaryDirectory(prefix="detector-") as folder:
        gathered = gather([word], Path(folder))
        if gathered.missed:
            raise UserError(gathered.missed[0])
        for given in gathered.words:
            pictures, videos = split_videos([given])
            for video in videos:
                yield from (frame.image for frame in read_frames(open_video(video)))
            inputs, unused = find_inputs(pictures, skip=Path(folder) / "nothing") if pictures else ([], [])
            if unused:
                raise UserError(unused[0])
            # Fetched files are gone when detections are drawn later, so their bytes travel.
            for one in inputs:
                yield one.path.read_bytes() if Path(folder) in one.path.parents else one.path
