"""The thread that owns the network: batches, failures, cancelling and its end."""

import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from detector.categories import CategoryMap
from detector.inference.detections import Detections
from detector.serving import batching
from detector.serving.batching import LONGEST_WAIT, Batcher


def picture(number: int) -> np.ndarray:
    return np.full((2, 2, 3), number, np.uint8)


def answer(image: np.ndarray) -> Detections:
    """Whose size says whose it is."""
    nothing = torch.zeros(0)
    return Detections(nothing.reshape(0, 4), nothing, nothing.long(), (int(image[0, 0, 0]), 1), CategoryMap(()))


class Network:
    """Waits at a gate, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()

    def __call__(self, images: Sequence[np.ndarray]) -> list[Detections]:
        self.batches.append([int(image[0, 0, 0]) for image in images])
        assert self.gate.wait(60)
        if 13 in self.batches[-1]:
            raise ValueError("thirteen")
        return [answer(image) for image in images]


def test_what_waits_goes_together_and_each_gets_its_own() -> None:
    network, counted = Network(), list[int]()
    batcher = Batcher(network, 3, lambda count, _: counted.append(count))
    first = batcher.submit(picture(1))
    while not network.batches:
        time.sleep(0.001)
    rest = [batcher.submit(picture(number)) for number in (2, 3, 4, 5)]
    network.gate.set()
    assert [one.result(60).image_size[0] for one in (first, *rest)] == [1, 2, 3, 4, 5]
    batcher.close()
    assert network.batches == [[1], [2, 3, 4], [5]]
    assert counted == [1, 3, 1]


def test_one_that_fails_does_not_take_the_others_along() -> None:
    network = Network()
    batcher = Batcher(network, 4)
    first = batcher.submit(picture(1))
    while not network.batches:
        time.sleep(0.001)
    rest = [batcher.submit(picture(number)) for number in (2, 13, 4)]
    network.gate.set()
    assert [rest[i].result(60).image_size[0] for i in (0, 2)] == [2, 4]
    with pytest.raises(ValueError, match="thirteen"):
        rest[1].result(60)
    assert first.result(60).image_size[0] == 1
    batcher.close()


def test_one_that_is_cancelled_takes_no_time() -> None:
    network = Network()
    batcher = Batcher(network, 1)
    batcher.submit(picture(1))
    while not network.batches:
        time.sleep(0.001)
    cancelled = batcher.submit(picture(2))
    assert cancelled.cancel()
    network.gate.set()
    batcher.close()
    assert network.batches == [[1]]


def test_closing_finishes_what_was_submitted() -> None:
    network = Network()
    network.gate.set()
    batcher = Batcher(network, 2)
    answers = [batcher.submit(picture(number)) for number in range(5)]
    batcher.close()
    assert [one.result(0).image_size[0] for one in answers] == [0, 1, 2, 3, 4]


def test_a_picture_waits_only_for_one_that_is_coming(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "LONGEST_WAIT", 60.0)
    network, coming = Network(), threading.Event()
    network.gate.set()
    batcher = Batcher(network, 8, is_another_coming=coming.is_set)
    batcher.submit(picture(1)).result(60)  # alone: at once
    coming.set()
    second = batcher.submit(picture(2))
    time.sleep(0.05)
    assert not second.done()
    coming.clear()
    third = batcher.submit(picture(3))
    assert [one.result(60).image_size[0] for one in (second, third)] == [2, 3]
    batcher.close()
    assert network.batches == [[1], [2, 3]]


def test_a_picture_waits_no_longer_than_said() -> None:
    network = Network()
    network.gate.set()
    batcher = Batcher(network, 8, is_another_coming=lambda: True)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        batcher.submit(picture(1)).result(60)
        times.append(time.perf_counter() - began)
    batcher.close()
    assert LONGEST_WAIT <= 0.010
    assert LONGEST_WAIT <= min(times) < LONGEST_WAIT + 0.1
