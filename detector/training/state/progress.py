"""Where a run stands."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass
class Progress:
    """Where a run stands, in plain numbers."""

    iteration: int = 0  # finished optimizer steps, skipped ones included
    images: int = 0  # pictures trained on
    seconds: float = 0.0  # spent on it, over all starts
    evaluated_iteration: int = 0  # of the newest evaluation
    best_iteration: int = 0  # of the best evaluation; 0: none yet
    best_ap: float | None = None
    evaluations_without_gain: int = 0
    skipped_steps: int = 0  # whose losses or gradients were not finite, in all; float16's overflows too
    skipped_in_a_row: int = 0  # without these
    averaged_updates: int = 0

    def count(self, images: int, seconds: float) -> None:
        """Count a step on so many pictures that took so long."""
        self.iteration += 1
        self.images += images
        self.seconds += seconds


def read_progress(stored: Mapping[str, Any]) -> Progress:
    """Progress from plain containers, every number of the type it was written with.

    Raises:
        TypeError: one is of another type.
        KeyError: one is missing.
    """
    for f in fields(Progress):
        value = stored[f.name]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (isinstance(value, int) and number if f.type is int else number or value is None):
            raise TypeError(f"{f.name} is {value!r}")
    return Progress(**stored)
