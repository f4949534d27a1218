"""Some at a time of whatever comes one by one."""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from typing import TypeVar

T = TypeVar("T")


def in_batches(items: Iterable[T], count: int) -> Iterator[list[T]]:
    """The items in their order, `count` at a time; the last batch may have fewer."""
    remaining = iter(items)
    while batch := list(islice(remaining, count)):
        yield batch


def in_batches_alike(items: Iterable[T], count: int, key: Callable[[T], object]) -> Iterator[list[T]]:
    """The items in their order, neighbours for which `key` is the same together, at most `count` at a time."""
    for _, neighbours in groupby(items, key):
        yield from in_batches(neighbours, count)
