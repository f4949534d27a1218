"""Some at a time of whatever comes one by one."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def in_batches(items: Iterable[T], count: int) -> Iterator[list[T]]:
    """The items in their order, `count` at a time; the last batch may have fewer."""
    remaining = iter(items)
    while batch := list(islice(remaining, count)):
        yield batch
