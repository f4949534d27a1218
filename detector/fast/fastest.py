"""Which of several ways to compute the same is the fastest on a GPU, by its own clock."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch

Way = TypeVar("Way")
Outputs = TypeVar("Outputs")

GAIN = 1.03  # so many times faster another way has to be than the one before it
CALLS = 10  # of which the quickest counts


def fastest(calls: dict[Way, Callable[[], object]], device: torch.device) -> Way:
    """The quickest of these calls; another than the first has to be `GAIN` times as fast as the best before it."""
    taken = {way: seconds(call, device) for way, call in calls.items()}
    best = next(iter(taken))
    for way, time in taken.items():
        if time * GAIN < taken[best]:
            best = way
    return best


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """The shortest of `CALLS` calls on a GPU, after two that warm up."""
    call()
    call()
    make = partial(torch.cuda.Event, enable_timing=True)
    events = [(make(), make()) for _ in range(CALLS)]
    for begin, end in events:
        begin.record()
        call()
        end.record()
    torch.cuda.synchronize(device)
    return min(begin.elapsed_time(end) for begin, end in events) / 1000


def pass_to_time(
    forward: Callable[[], Outputs], backward: Callable[[Outputs], object], gradient: bool
) -> Callable[[], object]:
    """A call to be timed: the forward pass alone, without gradient; or with `gradient` the backward pass after it."""
    return (lambda: backward(forward())) if gradient else torch.no_grad()(forward)
