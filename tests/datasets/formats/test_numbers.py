import math

import numpy as np
import pytest

from detector.datasets.formats.numbers import read_number, whole_numbers


def test_whole_numbers() -> None:
    values = [1, 2.0, 2.5, True, "3", None, 2**70, -5, math.nan, math.inf, 2.0**60]
    numbers, good = whole_numbers(values)
    assert good.tolist() == [True, True, False, False, False, False, False, True, False, False, False]
    assert numbers[good].tolist() == [1, 2, -5]
    assert whole_numbers([])[0].dtype == np.int64


def test_the_largest_ids() -> None:
    numbers, good = whole_numbers([2**63 - 1, 1 - 2**63, -(2**63)])
    assert good.tolist() == [True, True, False]
    assert numbers[:2].tolist() == [2**63 - 1, 1 - 2**63]
    assert whole_numbers([2**63 - 1, 2**63])[1].tolist() == [True, False]


def test_numbers_in_text() -> None:
    assert read_number(" 1e-3 ") == 0.001
    for text in ("1_000", "", "0x10", "1,5"):
        with pytest.raises(ValueError, match=text or "could not"):
            read_number(text)
