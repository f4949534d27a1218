"""The measure of memory that other tests rely on."""

import numpy as np
from memory_peak import peak_memory


def test_memory_that_was_freed_before_counts_when_it_is_taken_again() -> None:
    pieces = [b"x" * 100_000 for _ in range(2000)]  # small enough for the heap, which keeps them when they are freed
    last = b"y" * 100_000
    del pieces
    with peak_memory() as peak:
        again = [b"z" * 100_000 for _ in range(1000)]
    assert 80e6 < peak.bytes < 150e6
    assert len(again) == 1000
    assert len(last) == 100_000


def test_a_peak_that_is_over_counts_and_one_before_does_not() -> None:
    np.ones(40_000_000)
    with peak_memory() as peak:
        np.ones(10_000_000)
    assert 70e6 < peak.bytes < 150e6
