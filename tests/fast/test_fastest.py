"""Which way is the fastest, with clocks that say what the test wants."""

from collections.abc import Callable

import pytest
import torch

from detector.fast import fastest as module
from detector.fast.fastest import fastest, pass_to_time


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ({"a": 1.0, "b": 0.9, "c": 0.95}, "b"),
        ({"a": 1.0, "b": 0.99, "c": 1.0}, "a"),
        ({"a": 3.0, "b": 2.0, "c": 1.0}, "c"),
    ],
)
def test_the_quickest_counts_and_a_little_quicker_does_not(
    monkeypatch: pytest.MonkeyPatch, taken: dict[str, float], expected: str
) -> None:
    monkeypatch.setattr(module, "seconds", lambda call, _device: call())
    calls: dict[str, Callable[[], object]] = {way: (lambda time=time: time) for way, time in taken.items()}
    assert fastest(calls, torch.device("cuda", 0)) == expected


@pytest.mark.parametrize("gradient", [False, True])
def test_backward_passes_are_timed_only_where_there_are_gradients(gradient: bool) -> None:
    x = torch.ones(2, requires_grad=True)
    call = pass_to_time(lambda: 3 * x, lambda out: out.sum().backward(), gradient)
    call()
    if gradient:
        assert x.grad is not None
        assert x.grad.tolist() == [3, 3]
    else:
        out = call()
        assert isinstance(out, torch.Tensor)
        assert (x.grad, out.requires_grad) == (None, False)
