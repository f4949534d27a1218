"""A GPU gets the next step's pictures while it computes; nothing else does."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import Mock

import pytest
import torch

from detector.datasets.loading.batch import TrainingBatch
from detector.errors import UserError
from detector.structures import ImageBatch, Target
from detector.training.process.signals import StoppedError
from detector.training.run import ahead as module
from detector.training.run.ahead import Ahead

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def batch(iteration: int) -> TrainingBatch:
    images = ImageBatch(torch.zeros(1, 3, 1, 1), [(1, 1)], [(1, 1)], [iteration])
    return TrainingBatch(iteration, images, [Target(torch.zeros(1, 4), torch.ones(1, dtype=torch.int64))], [0])


class Loader:
    """Notes which iterations it was asked for; fails at one."""

    def __init__(self, fails_at: int = 0, error: BaseException | None = None) -> None:
        self.asked: list[int] = []
        self.fails_at, self.error = fails_at, error

    def __call__(self, iteration: int) -> tuple[list[TrainingBatch], float]:
        self.asked.append(iteration)
        if iteration == self.fails_at and self.error is not None:
            raise self.error
        return [batch(iteration)], float(iteration)


def test_a_cpu_takes_nothing_before_it_is_asked_for() -> None:
    loader = Loader()
    ahead = Ahead(loader, CPU)
    first = ahead.take(1)
    ahead.fetch(2)
    assert loader.asked == [1]
    assert first.moved is first.given
    assert ahead.take(2).waited == 2.0
    assert loader.asked == [1, 2]


@pytest.mark.parametrize("error", [UserError("unreadable"), StoppedError(), torch.OutOfMemoryError("full")])
@pytest.mark.usefixtures("streams")
def test_what_fails_ahead_ends_the_run_after_the_step(error: BaseException) -> None:
    loader = Loader(2, error)
    ahead = Ahead(loader, GPU)
    ahead.take(1)
    ahead.fetch(2)
    ahead.fetch(2)  # a loader that has failed is not asked again
    for _ in range(2):
        with pytest.raises(type(error)):
            ahead.take(2)
    assert loader.asked == [1, 2]


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Two streams, on one of which copies are made, in the order in which they are used; copying is a note too."""
    calls = Mock()

    @contextmanager
    def on(stream: object) -> Iterator[None]:
        calls.enter(stream)
        yield
        calls.leave(stream)

    def moved(given: TrainingBatch, device: torch.device, non_blocking: bool) -> TrainingBatch:
        calls.copy(given.iteration, device, non_blocking)
        tensors = [Mock(record_stream=getattr(calls, f"record_{name}")) for name in ("pixels", "boxes", "labels")]
        images = ImageBatch(tensors[0], [(1, 1)], [(1, 1)], [0])
        return TrainingBatch(given.iteration, images, [Target(tensors[1], tensors[2])], [0])

    monkeypatch.setattr(module, "copy_stream", lambda _device: calls.copying)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: calls.computing)
    monkeypatch.setattr(TrainingBatch, "to", moved)
    return calls


def test_a_stream_of_its_own_copies_and_the_other_waits_when_it_needs_them(streams: Mock) -> None:
    ahead = Ahead(Loader(), GPU)
    ahead.take(1)
    streams.reset_mock()
    ahead.fetch(2)
    assert [name for name, *_ in streams.mock_calls] == ["enter", "copy", "leave"]
    streams.copy.assert_called_once_with(2, GPU, True)
    streams.enter.assert_called_once_with(streams.copying)
    streams.reset_mock()
    assert ahead.take(2).moved[0].iteration == 2
    names = [name for name, *_ in streams.mock_calls]
    assert names == ["computing.wait_stream", "record_pixels", "record_boxes", "record_labels"]
    streams.computing.wait_stream.assert_called_once_with(streams.copying)
    streams.record_pixels.assert_called_once_with(streams.computing)
