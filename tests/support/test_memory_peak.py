"""The measure of memory that other tests rely on."""

import numpy as np
from memory_peak import peak_memory


def test_memory_that_was_freed_before_counts_when_it_is_taken_again() -> None:
    pieces = [b"x" * 100_000 for _ in range(6000)]  # small enough for the heap, which keeps them when they are freed
    last = b"y" * 100_000
    del pieces
    with peak_memory() as peak:
        again = [b"z" * 100_000 for _ in range(3000)]
    assert 250e6 < peak.bytes < 450e6  # what other tests left behind comes and goes by some tens of megabytes
    assert len(again) == 3000
    assert len(last) == 100_000


def test_a_peak_that_is_over_counts_and_one_before_does_not() -> None:
    np.ones(100_000_000)
    with peak_memory() as peak:
        np.ones(40_000_000)
    assert 250e6 < peak.bytes < 450e6
