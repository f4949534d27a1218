"""Pictures that cannot be used: what takes their place in training, and how many of them a run tolerates."""

from collections.abc import Callable, Sequence

import numpy as np

from detector.datasets.pictures.read import ImageError

# A few pictures are damaged in most sets of some size. More than that, and something else is wrong: a folder that is no
# longer there, or boxes made for pictures before EXIF turned them.
BEARABLE = 10
BEARABLE_FRACTION = 0.01

IN_TRAINING = "Until then another picture takes its place."
IN_EVALUATION = "Until then it counts as a picture in which nothing was found."


class LeftOut:
    """Reports every picture that is left out, once, and stops the run when there are too many.

    Args:
        source: the annotations, for the message.
        total: pictures of the set.
        consequence: what is done about each, a sentence.
        warn: says a warning; None: no picture is left out, the first that cannot be used raises.
    """

    def __init__(self, source: str, total: int, consequence: str, warn: Callable[[str], None] | None) -> None:
        self._source = source
        self._limit = max(BEARABLE, int(BEARABLE_FRACTION * total))
        self._consequence = consequence
        self._warn = warn
        self._said: dict[str, None] = {}

    @property
    def said(self) -> tuple[str, ...]:
        """What is wrong with each picture that was left out until now."""
        return tuple(self._said)

    def note(self, problems: Sequence[str]) -> None:
        """Record what is wrong with pictures.

        Raises:
            ImageError: with what is wrong with one of them, where none or no more may be left out.
        """
        for problem in problems:
            if self._warn is None:
                raise ImageError(problem)
            if problem in self._said:
                continue
            self._said[problem] = None
            if len(self._said) > self._limit:
                raise ImageError(
                    f"{self._source}: more than {self._limit} pictures cannot be used, one of them is {problem} "
                    "faster-rcnn check-data lists them all."
                )
            self._warn(f"{problem} {self._consequence}")


def next_of_group(kept: np.ndarray, groups: np.ndarray, total: int) -> np.ndarray:
    """Which picture takes a picture's place: the next of its group, and after the last the first.

    Args:
        kept: [M] int64, the pictures that are trained on.
        groups: [M] bool, which of two groups each belongs to.
        total: pictures of the set.

    Returns:
        [total] int64; its own number for a picture that is not trained on.
    """
    following = np.arange(total)
    for group in (kept[groups], kept[~groups]):
        following[group] = np.roll(group, -1)
    return following
