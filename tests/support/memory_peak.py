"""How much memory a piece of code takes, measured so that what ran before it in the process does not hide it."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Peak:
    """Bytes beyond what the process held before; known when the block has ended."""

    bytes = 0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measure the most memory that the process holds at once during a block, beyond what it held at its start.

    The system's high-water mark alone would not do: it stays where an earlier test left it, and an allocation that
    fits into freed memory which the C library keeps does not raise it. Both are reset first. Linux with glibc only.
    """
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("measures memory by Linux's /proc and glibc's malloc_trim")
    libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark falls to what is held now
    before = _high_water()
    peak = Peak()
    try:
        yield peak
    finally:
        peak.bytes = _high_water() - before


def _high_water() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    pytest.skip("/proc/self/status does not say VmHWM")
