"""Time of calls that take turns, so that what else the machine does meets all of them alike."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch


@dataclass(frozen=True)
class Seconds:
    """The time of one call.

    wall: the clock's; on a GPU between two of its own events. cpu: of all threads of this process.
    """

    wall: float
    cpu: float


@dataclass(frozen=True)
class Ratio:
    """How many times longer one call takes than another: of the medians, and the range over the rounds."""

    median: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.lowest:.2f} to {self.highest:.2f})"


Samples = Mapping[str, Sequence[Seconds]]


def take_turns(
    calls: Mapping[str, Callable[[], object]], rounds: int, device: torch.device, repeats: int = 1
) -> dict[str, list[Seconds]]:
    """Run A B C, A B C, … and time each.

    Args:
        calls: warmed up already.
        repeats: calls in a row that are timed together, where one is too short.
    """
    samples: dict[str, list[Seconds]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            samples[name].append(time_call(call, device, repeats))
    return samples


def time_call(call: Callable[[], object], device: torch.device, repeats: int = 1) -> Seconds:
    """Seconds of one of `repeats` calls in a row."""
    cpu = time.process_time()
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize(device)
        start.record()
        _repeat(call, repeats)
        end.record()
        torch.cuda.synchronize(device)
        wall = start.elapsed_time(end) / 1000
    else:
        clock = time.perf_counter()
        _repeat(call, repeats)
        wall = time.perf_counter() - clock
    return Seconds(wall / repeats, (time.process_time() - cpu) / repeats)


def _repeat(call: Callable[[], object], repeats: int) -> None:
    for _ in range(repeats):
        call()


def walls(samples: Sequence[Seconds]) -> list[float]:
    """The clock's seconds of every round."""
    return [sample.wall for sample in samples]


def cpus(samples: Sequence[Seconds]) -> list[float]:
    """The process's seconds of every round."""
    return [sample.cpu for sample in samples]


def ratio(slow: Sequence[float], fast: Sequence[float]) -> Ratio:
    """`slow` over `fast`, round by round."""
    each = [a / b for a, b in zip(slow, fast, strict=True)]
    return Ratio(median(slow) / median(fast), min(each), max(each))
