from typing import Any

import numpy as np
import pytest

from detector.datasets.faults import Fault
from detector.datasets.formats.categories_table import check_names, parse_categories


def parse(rows: list[dict[str, Any]], used: tuple[int, ...]) -> tuple[list[tuple[int, str]], list[str]]:
    faults: list[Fault] = []
    categories, _ = parse_categories(rows, np.array(used, np.int64), faults)
    return categories, [f"{fault.kind.name}: {fault.detail}" for fault in faults]


def category(number: int, name: str, above: str | None = None) -> dict[str, Any]:
    return {"id": number, "name": name} | ({} if above is None else {"supercategory": above})


PLACEHOLDER = category(0, "cells", "none")
LEFT_OUT = ["placeholder-category: category 0 (cells)"]


@pytest.mark.parametrize(
    ("rows", "used", "expected"),
    [
        ([PLACEHOLDER, category(1, "RBC", "cells"), category(2, "WBC", "cells")], (1, 2), [(1, "RBC"), (2, "WBC")]),
        ([PLACEHOLDER, category(1, "cells", "cells")], (1,), [(1, "cells")]),
        ([PLACEHOLDER, category(1, "cells", "cells")], (), [(1, "cells")]),  # a split without objects
        ([PLACEHOLDER, category(5, "cells")], (5,), [(5, "cells")]),
    ],
)
def test_a_category_that_stands_for_the_dataset_is_left_out(
    rows: list[dict[str, Any]], used: tuple[int, ...], expected: list[tuple[int, str]]
) -> None:
    assert parse(rows, used) == (expected, LEFT_OUT)
    assert parse(rows[::-1], used) == (expected[::-1], LEFT_OUT)


@pytest.mark.parametrize(
    ("rows", "used"),
    [
        ([PLACEHOLDER, category(1, "RBC", "cells")], (0, 1)),  # it is used
        ([PLACEHOLDER, category(1, "RBC", "none")], (1,)),  # it heads nothing
        ([category(0, "cells"), category(1, "RBC", "cells")], (1,)),
        ([category(1, "a"), category(2, "a")], (1, 2)),
        ([category(1, "a"), category(2, "a")], ()),
        ([category(1, "person", "person"), category(2, "dog", "animal")], (2,)),
    ],
)
def test_others_stay(rows: list[dict[str, Any]], used: tuple[int, ...]) -> None:
    categories, faults = parse(rows, used)
    assert len(categories) == 2
    assert faults == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Car", "car"),
        ("car", "car "),
        ("stop sign", "stop_sign"),
        ("stop sign", "StopSign"),
        ("person", "per\u017fon"),
        ("é", "e\u0301"),
    ],
)
def test_names_that_people_take_for_the_same(first: str, second: str) -> None:
    (fault,) = check_names([(1, first), (7, second)])
    assert fault.kind.name == "similar-category-name"
    assert fault.detail == f"{first!r} is category 1 and {second!r} is category 7"


def test_other_names() -> None:
    assert check_names([(1, "1-2"), (2, "12"), (3, "cat"), (4, "cats"), (5, "_"), (6, "-")]) == []
    (fault,) = check_names([(1, "a"), (2, "a")])
    assert fault.kind.name == "repeated-category-name"
