"""Random draws that are the same everywhere and for ever."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Draws:
    """A stream of draws that depends on its key alone.

    It uses only the raw output of PCG64, which NumPy promises never to change; the streams of its distributions may
    change between versions (NEP 19).
    """

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def integer(self, low: int, high: int) -> int:
        """Draw a whole number between `low` and `high`, both included."""
        return low + int(self._bits.random_raw()) % (high - low + 1)

    def uniform(self, low: float, high: float) -> float:
        """Draw a number in [low, high)."""
        return low + (high - low) * ((int(self._bits.random_raw()) >> 11) * 2.0**-53)

    def chance(self, probability: float) -> bool:
        """Draw True with this probability, in [0, 1]."""
        return self.uniform(0.0, 1.0) < probability

    def choice(self, items: Sequence[T]) -> T:
        """Draw one of the items, each with the same probability."""
        return items[self.integer(0, len(items) - 1)]

    def octets(self, *shape: int) -> np.ndarray:
        """Draw a uint8 array of `shape`, uniform over 0..255."""
        count = int(np.prod(shape))
        words = self._bits.random_raw((count + 7) // 8)
        return words.astype("<u8").view(np.uint8)[:count].reshape(shape)
