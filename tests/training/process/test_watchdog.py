import multiprocessing
import os
import signal
import sys
import time

import pytest

from detector.training.process.watchdog import Watchdog


def wait_for(reports: list[str], count: int) -> None:
    deadline = time.monotonic() + 60
    while len(reports) < count and time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_long_phase_is_named_again_and_again_and_a_short_one_never() -> None:
    reports: list[str] = []
    with Watchdog(reports.append, poll_seconds=0.01) as watchdog:
        with watchdog.phase("waiting for the batch of iteration 7", limit_seconds=0.05):
            wait_for(reports, 2)
        count = len(reports)
        assert count >= 2
        with watchdog.phase("training", limit_seconds=60):
            time.sleep(0.1)
    assert all("waiting for the batch of iteration 7 has taken" in r for r in reports)
    assert len(reports) <= count + 1


def test_a_phase_that_advances_is_not_reported() -> None:
    reports: list[str] = []
    with Watchdog(reports.append, poll_seconds=0.01) as watchdog, watchdog.phase("the evaluation", limit_seconds=60):
        for iteration in range(10):
            with watchdog.phase(f"step {iteration}", limit_seconds=60):
                watchdog.renew()
                assert watchdog.doing == f"step {iteration}"
        assert watchdog.doing == "the evaluation"
    assert reports == []


def test_a_phase_that_is_renewed_is_not_reported() -> None:
    reports: list[str] = []
    with Watchdog(reports.append, poll_seconds=0.01) as watchdog, watchdog.phase("scoring", limit_seconds=60):
        watchdog._phase = ("scoring", 60, time.monotonic() - 100)  # it began long ago
        wait_for(reports, 1)
        watchdog.renew()
        count = len(reports)
        time.sleep(0.1)
    assert len(reports) <= count + 1


def fail(watchdog: Watchdog) -> None:
    with watchdog.phase("the step of iteration 3", limit_seconds=60):
        raise MemoryError


def test_where_it_failed_is_known_afterwards() -> None:
    watchdog = Watchdog(pytest.fail)
    with watchdog, pytest.raises(MemoryError):
        fail(watchdog)
    assert watchdog.doing == "the step of iteration 3"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_stopped_worker_is_named() -> None:
    worker = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,), daemon=True)
    worker.start()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    reports: list[str] = []
    try:
        with Watchdog(reports.append, poll_seconds=0.01) as watchdog, watchdog.phase("waiting", limit_seconds=0.01):
            wait_for(reports, 1)
    finally:
        worker.kill()
        worker.join()
    assert f"{worker.pid} (stopped)" in reports[-1]
