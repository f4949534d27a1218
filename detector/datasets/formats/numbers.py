"""Numbers as files of annotations write them."""

from typing import Any

import numpy as np

# Ids are int64. Beyond 2^53 a float may stand for several whole numbers, so ids are not read from such.
_BEYOND_INT64 = 2**63
_BEYOND_FLOAT = 2**53


def whole_numbers(values: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """[N] int64 and [N] bool: which of the values are whole numbers that fit. 12.0 is one; true, "12" and None are not.

    What is none has the value 0.
    """
    if set(map(type, values)) <= {int}:
        try:
            numbers = np.array(values, np.int64)
            return numbers, numbers != -_BEYOND_INT64
        except OverflowError:  # one by one, then
            pass
    numbers = np.array([int(value) if _is_whole(value) else 0 for value in values], np.int64)
    return numbers, np.array([_is_whole(value) for value in values], bool)


def _is_whole(value: Any) -> bool:
    if type(value) is int:
        return abs(value) < _BEYOND_INT64
    return type(value) is float and value.is_integer() and abs(value) < _BEYOND_FLOAT


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a number that an array of float64 can hold; infinity and NaN are."""
    return type(value) is float or (type(value) is int and abs(value) < _BEYOND_INT64)


def read_number(text: str) -> float:
    """A number as annotation files write it. Raises ValueError for all else, such as 1_000, which Python would take."""
    if "_" in text:
        raise ValueError(text)
    return float(text)
