"""Which sizes become graphs: the policy, with recordings that only count."""

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from detector.arithmetic import float32_products
from detector.fast import graphs
from detector.fast.graphs import GRAPHS, OFTEN, Graphed


class Recorder:
    """Stands for CUDA: notes what it records, and how often each recording runs."""

    def __init__(self) -> None:
        self.recorded: list[tuple[int, ...]] = []
        self.replayed: list[tuple[int, ...]] = []

    def __call__(self, part: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Callable[..., Tensor]:
        size = tuple(inputs[0].shape)
        self.recorded.append(size)

        def replay(*given: Tensor) -> Tensor:
            assert tuple(given[0].shape) == size
            self.replayed.append(size)
            return part(*given)

        return replay


class Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


def give(part: Graphed, *size: int, times: int = 1) -> None:
    for _ in range(times):
        x = torch.rand(size)
        assert torch.equal(part(x), x * 2)


def test_a_size_is_recorded_when_it_has_come_often() -> None:
    recorder = Recorder()
    part = Graphed(Double(), "a part", recorder)
    give(part, 4, 5, times=OFTEN - 1)
    give(part, 6, 5, times=OFTEN - 1)
    assert recorder.recorded == []
    give(part, 4, 5, times=3)
    assert recorder.recorded == [(4, 5)]
    assert recorder.replayed == [(4, 5)] * 3
    give(part, 6, 5)
    assert recorder.recorded == [(4, 5), (6, 5)]


def test_types_and_memory_orders_are_sizes_of_their_own() -> None:
    recorder = Recorder()
    part = Graphed(Double(), "a part", recorder)
    give(part, 4, 4, times=OFTEN)
    for other in (torch.rand(4, 4).double(), torch.rand(4, 4).T):
        assert torch.equal(part(other), other * 2)
    assert len(recorder.recorded) == 1
    assert len(recorder.replayed) == 1


def test_a_recording_keeps_to_the_rounding_that_it_was_made_with() -> None:
    recorder = Recorder()
    part = Graphed(Double(), "a part", recorder)
    with float32_products("float32"):
        give(part, 4, times=OFTEN)
    with float32_products("tf32"):
        give(part, 4, times=OFTEN)
        assert len(recorder.recorded) == 2
    with float32_products("float32"):
        give(part, 4)
    assert len(recorder.recorded) == 2


def test_the_one_that_was_not_used_for_longest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "IDLE", 1)
    recorder = Recorder()
    part = Graphed(Double(), "a part", recorder)
    for size in range(1, GRAPHS + 1):
        give(part, size, times=OFTEN)
    give(part, 1)  # is used again, so the second has now waited longest
    give(part, 100, times=OFTEN)
    recorder.recorded.clear()
    give(part, 1)
    assert recorder.recorded == []
    give(part, 2)
    assert recorder.recorded == [(2,)]


def test_sizes_that_take_turns_are_not_recorded_again_and_again() -> None:
    recorder = Recorder()
    part = Graphed(Double(), "a part", recorder)
    for _ in range(2 * OFTEN):
        for size in range(1, GRAPHS + 4):
            give(part, size)
    assert len(recorder.recorded) == GRAPHS
    monopoly = graphs.IDLE  # one size alone, until the others have waited in vain for long enough
    give(part, 1, times=monopoly)
    give(part, GRAPHS + 1)
    assert recorder.recorded[-1] == (GRAPHS + 1,)
    assert len(recorder.recorded) == GRAPHS + 1


def test_what_records_a_whole_records_its_parts_as_they_are() -> None:
    """A graph cannot start others while it is recorded."""
    inner = Recorder()
    part = Graphed(Double(), "a part", inner)
    give(part, 4, times=OFTEN)
    assert inner.replayed

    def record(whole: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Callable[..., Tensor]:
        inner.replayed.clear()
        now = graphs._recording.set(True)
        whole(*inputs)
        graphs._recording.reset(now)
        assert inner.replayed == []
        return whole

    outer = Graphed(lambda x: part(x), "the whole", record)
    give(outer, 4, times=OFTEN + 1)
    assert inner.replayed


def test_what_cannot_be_recorded_runs_as_it_is_and_is_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    tried = []

    def fails(_part: object, inputs: tuple[Tensor, ...]) -> Callable[..., Tensor]:
        tried.append(inputs)
        raise RuntimeError("no stream\nmore")

    part = Graphed(Double(), "the backbone", fails)
    with caplog.at_level(logging.WARNING):
        give(part, 4, times=OFTEN + 3)
        give(part, 5, times=OFTEN + 3)
    assert len(tried) == 1
    assert caplog.messages == [
        "the backbone runs without CUDA graphs (no stream): slower for small pictures, but just as exact."
    ]


def test_what_is_no_faster_as_a_graph_runs_as_it_is() -> None:
    asked = []
    part = Graphed(Double(), "a part", lambda _part, inputs: asked.append(inputs))
    give(part, 4, times=OFTEN + 3)
    assert len(asked) == 1


def test_only_so_many_sizes_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "SIZES", 10)
    recorder = Recorder()
    part = Graphed(Double(), "a part", recorder)
    for _ in range(3):
        for size in range(1, 40):
            give(part, size)
    assert len(part._seen) <= 10
    assert recorder.recorded == []
