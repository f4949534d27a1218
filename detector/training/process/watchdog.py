"""A thread that names what a run is waiting for when a step does not come to its end."""

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

PROCESS_STATES = {"R": "running", "S": "sleeping", "D": "waiting for a disk", "T": "stopped", "Z": "dead", "X": "dead"}


class Watchdog:
    """Reports, while active, a phase of the run that lasts longer than expected, again after every further such time.

    Args:
        report: takes one sentence; called from another thread.
        poll_seconds: how often the thread looks.
    """

    def __init__(self, report: Callable[[str], None], poll_seconds: float = 1.0) -> None:
        self._report = report
        self._poll_seconds = poll_seconds
        self._phase = ("starting", float("inf"), time.monotonic())
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    @contextmanager
    def phase(self, what: str, limit_seconds: float) -> Iterator[None]:
        """Inside, the run is doing `what`, which should not take longer than this.

        An exception leaves the phase as it is, so that `doing` can say where it came from.
        """
        outer, limit, _ = self._phase
        self._phase = (what, limit_seconds, time.monotonic())
        yield
        self._phase = (outer, limit, time.monotonic())

    def renew(self) -> None:
        """Note that the phase has made progress: its time counts from now."""
        what, limit, _ = self._phase
        self._phase = (what, limit, time.monotonic())

    @property
    def doing(self) -> str:
        """The phase that the run is in, or that it failed in."""
        return self._phase[0]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        reported: tuple[str, float, float] | None = None
        reports = 0
        while not self._done.wait(self._poll_seconds):
            phase = what, limit, since = self._phase
            reports = reports if phase == reported else 0
            elapsed = time.monotonic() - since
            if elapsed > limit * (reports + 1):
                reported, reports = phase, reports + 1
                self._report(f"{what} has taken {elapsed:.0f} s so far{_describe_workers()}")


def _describe_workers() -> str:
    """The data loading processes of this one and what the system says they do."""
    workers = [f"{child.pid} ({_state(child.pid)})" for child in multiprocessing.active_children()]
    return f"; data loading workers: {', '.join(workers)}" if workers else "; there are no data loading workers"


def _state(pid: int | None) -> str:
    try:
        # The name in parentheses may itself hold spaces; the state follows the last one.
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "state unknown"
    return PROCESS_STATES.get(letter, letter)
