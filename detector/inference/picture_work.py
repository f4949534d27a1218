"""Which pictures of a list are still to be detected in, by which process, and the results of all of them together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detector.errors import UserError
from detector.inference.batches import in_batches
from detector.inference.picture_log import Entry


@dataclass(frozen=True)
class Work:
    """The numbers of the pictures that are still to be detected in.

    fresh: those that were never tried, or have changed since. again: those that could not be read before. They come
    after the fresh ones, so that the batches of these are what they would have been without an interruption.
    """

    fresh: list[int]
    again: list[int]

    def share(self, batch_size: int, rank: int, world_size: int) -> "Work":
        """The part of one of several processes: every `world_size`-th of the batches that one alone would make."""
        return Work(*(_dealt(numbers, batch_size, rank, world_size) for numbers in (self.fresh, self.again)))


def _dealt(numbers: Sequence[int], batch_size: int, rank: int, world_size: int) -> list[int]:
    batches = list(in_batches(numbers, batch_size))[rank::world_size]
    return [number for batch in batches for number in batch]


def work_left(pictures: Sequence[Entry], done: Mapping[str, Entry]) -> Work:
    """Which of a list of pictures are still to be detected in.

    Args:
        pictures: as they are now, with no detections.
        done: the results of an earlier command, by output.
    """
    fresh, again = [], []
    for number, picture in enumerate(pictures):
        before = done.get(picture.output)
        if before is None or not before.is_of(picture):
            fresh.append(number)
        elif before.detections is None:
            again.append(number)
    return Work(fresh, again)


def joined_results(pictures: Sequence[Entry], done: Mapping[str, Entry]) -> list[dict[str, Any]]:
    """The results of a list of pictures in its order, numbered by it from 1, and behind them those of all others.

    Args:
        pictures: the list.
        done: what has come of pictures, by output.
    """
    listed = {picture.output for picture in pictures}
    others = [entry for output, entry in done.items() if output not in listed]
    results = []
    for image_id, picture in enumerate([*pictures, *others], start=1):
        entry = done.get(picture.output)
        if entry is not None and entry.is_of(picture):
            results += [{"image_id": image_id} | result for result in entry.detections or ()]
    return results


def check_complete(pictures: Sequence[Entry], done: Mapping[str, Entry], folder: object) -> None:
    """Raise UserError where nothing is known of a picture of the list, which another process has done."""
    known = [picture.output in done and done[picture.output].is_of(picture) for picture in pictures]
    missing = known.count(False)
    if missing:
        raise UserError(
            f"{folder}: lacks what other processes found in {missing} of {len(pictures)} pictures; --output must be a "
            "folder that the machines of all processes share."
        )
