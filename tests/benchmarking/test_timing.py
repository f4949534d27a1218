import time

import pytest
import torch
from benchmarking.timing import cpus, ratio, take_turns, time_call, walls

CPU = torch.device("cpu")


def test_turns_are_taken_in_order() -> None:
    order: list[str] = []
    samples = take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, CPU, repeats=2)
    assert "".join(order) == "aabbaabb"
    assert [len(taken) for taken in samples.values()] == [2, 2]


def test_sleeping_takes_the_clock_s_time_and_none_of_the_processor_s() -> None:
    seconds = time_call(lambda: time.sleep(0.3), CPU, repeats=2)
    assert seconds.wall >= 0.3
    assert seconds.cpu < 0.15
    assert walls([seconds]) == [seconds.wall]
    assert cpus([seconds]) == [seconds.cpu]


def test_ratio_of_medians_and_its_range() -> None:
    found = ratio([4.0, 6.0, 5.0], [2.0, 2.0, 4.0])
    assert found.median == pytest.approx(2.5)
    assert (found.lowest, found.highest) == (1.25, 3.0)
    assert str(found) == "2.50 (1.25 to 3.00)"
