"""Which of the slow tests run, and in which order: a plugin for `.ci/slow`.

Without a budget all of them run, the most valuable first. With one, as many as fit are drawn by a seed: another commit
draws others, and none is left out for ever unless it takes longer than a budget or must have the machine to itself.
"""

import hashlib
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import NoReturn

import pytest

# Promises about what may be lost come first, then numbers, then commands; trainings of minutes come last.
BY_VALUE = (
    "tests/reliability/test_faults.py",
    "tests/reliability/test_workers.py",
    "tests/reliability/test_kill.py",
    "tests/parity",
    "tests/training",
    "tests/fast",
    "tests/model",
    "tests/evaluation",
    "tests/weights",
    "tests/commands",
    "tests/tools",
    "tests/datasets",
    "tests/fuzz",
    "tests/reliability",
    "tests/ablations",
)
# Seconds on two cores, where a test takes much longer or shorter than UNKNOWN. The longest prefix of its name counts.
FAULTS = "tests/reliability/test_faults.py"
EVERY_CALL = f"{FAULTS}::test_whichever_call_fails_the_run_goes_on_or_ends_with_a_sentence"
UNKNOWN = 60
SECONDS = {
    "tests/parity/test_wrong_semantics.py": 15,
    FAULTS: 20,
    f"{EVERY_CALL}[write-28-": 120,
    f"{EVERY_CALL}[fsync-5-once": 70,
    f"{FAULTS}::test_a_disk_that_fills_up_and_is_cleared": 75,
    "tests/reliability/test_workers.py::test_torchrun_restarts_the_group_after_a_kill": 160,
    "tests/reliability/test_kill.py::test_killed_at_random_moments": 900,
    "tests/reliability/test_memory.py": 900,
    "tests/export/test_full_width.py": 120,
    "tests/ablations": 1200,
}
# These compare durations: with other work on the machine they would fail, so a draw leaves them out.
BY_THE_CLOCK = (
    "tests/datasets/formats/test_coco.py::test_a_set_as_large_as_coco_is_read_in_seconds",
    "tests/evaluation/test_speed.py",
    "tests/commands/test_check_data.py::test_a_file_as_large_as_cocos_takes_seconds",
)
# A test that takes so many times longer than expected, and longer than this, hangs.
PATIENCE, SHORTEST_LIMIT = 8, 300


def seconds_of(name: str) -> int:
    """What a test is expected to take, by its node id."""
    known = [prefix for prefix in SECONDS if name.startswith(prefix)]
    return SECONDS[max(known, key=len)] if known else UNKNOWN


def by_value(names: Sequence[str]) -> list[str]:
    """All of them, those of the first entry of BY_VALUE first; what none of them covers comes last."""

    def rank(name: str) -> int:
        return next((i for i, prefix in enumerate(BY_VALUE) if name.startswith(prefix)), len(BY_VALUE))

    return sorted(names, key=rank)


def drawn(names: Sequence[str], seed: int) -> list[str]:
    """In an order that is another one for another seed, without those that go by the clock."""
    eligible = [name for name in names if not name.startswith(BY_THE_CLOCK)]
    return sorted(eligible, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).hexdigest())


@dataclass(eq=False)
class SlowSelection:
    """The plugin's state. budget: seconds for everything, or None for all tests however long they take."""

    budget: float | None
    seed: int
    start: float = field(default_factory=time.monotonic)
    not_run: list[str] = field(default_factory=list)

    @pytest.hookimpl(trylast=True)  # after `-m slow` has chosen
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        by_name = {item.nodeid: item for item in items}
        names = by_value(list(by_name)) if self.budget is None else drawn(list(by_name), self.seed)
        items[:] = [by_name.pop(name) for name in names]
        config.hook.pytest_deselected(items=list(by_name.values()))
        self.not_run += by_name

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self.budget is None:
            return
        left, expected = self.budget - (time.monotonic() - self.start), seconds_of(item.nodeid)
        if expected > left:
            self.not_run.append(item.nodeid)
            pytest.skip(f"not drawn: {expected} s, with {max(left, 0):.0f} s left")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Stop a test that hangs, where the system can."""
        limit = max(SHORTEST_LIMIT, PATIENCE * seconds_of(item.nodeid))

        def stop(_signal: int, _frame: FrameType | None) -> NoReturn:
            raise TimeoutError(f"still running after {limit} s")

        if not hasattr(signal, "SIGALRM"):
            return (yield)
        before = signal.signal(signal.SIGALRM, stop)
        signal.alarm(limit)
        try:
            return (yield)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        ran = len(terminalreporter.stats.get("passed", [])) + len(terminalreporter.stats.get("failed", []))
        terminalreporter.section("slow tests")
        drawn_by = "" if self.budget is None else f", drawn by seed {self.seed} for {self.budget:.0f} s"
        terminalreporter.write_line(f"ran: {ran}{drawn_by}. Not run: {len(self.not_run)}")
        for name, count in sorted(Counter(name.partition("[")[0] for name in self.not_run).items()):
            terminalreporter.write_line(f"  {name}" + (f" ({count})" if count > 1 else ""))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow-seconds", type=float, help="run as many slow tests as fit; default: all")
    parser.addoption("--slow-seed", type=int, default=0, help="which of them")


def pytest_configure(config: pytest.Config) -> None:
    selection = SlowSelection(config.getoption("--slow-seconds"), config.getoption("--slow-seed"))
    config.pluginmanager.register(selection, "slow selection")
