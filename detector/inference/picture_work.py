"""Which pictures of a list are still to be detected in, by whom, and what comes of all of them together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detector.errors import UserError
from detector.inference.batches import in_batches
from detector.inference.picture_log import Entry


@dataclass(frozen=True)
class Work:
    """The numbers of pictures that are to be done.

    fresh: those that were never tried, or have changed. again: those that could not be read before, tried once more
    behind the others, so that the batches of those are what they would have been without the break.
    """

    fresh: list[int]
    again: list[int]

    def share(self, batch_size: int, rank: int, world_size: int) -> "Work":
        """What one of several processes does: every `world_size`-th of the batches that a single one would make."""
        return Work(*(_dealt(numbers, batch_size, rank, world_size) for numbers in (self.fresh, self.again)))


def _dealt(numbers: Sequence[int], batch_size: int, rank: int, world_size: int) -> list[int]:
    batches = list(in_batches(numbers, batch_size))[rank::world_size]
    return [number for batch in batches for number in batch]


def work_left(pictures: Sequence[Entry], done: Mapping[str, Entry]) -> Work:
    """What is to be done of a list of pictures.

    Args:
        pictures: as they are now, with no detections.
        done: what came of pictures before, by output.
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
