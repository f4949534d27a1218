import json
import logging
import mmap
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detector.errors import UserError
from detector.training.report.logs import RunLog, forget_metrics_after, memory_in_use, read_metrics
from detector.training.state.progress import Progress


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """No file of this process may grow beyond `limit` bytes: what a full disk looks like to a writer."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_lines_numbers_and_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunLog(tmp_path, rank=0) as log:
        log.begin_numbers(Progress(), tensorboard=True)
        log.info("hello")
        log.warning("careful")
        log.metrics({"iteration": 1, "loss": float("nan"), "deep": {"x": [float("inf"), 2.0]}})
        log.scalars(1, {"loss/total": 1.0})
        log.picture(1, "samples/1", np.zeros((4, 6, 3), np.uint8))
    text = (tmp_path / "log.txt").read_text()
    assert "hello" in text
    assert "warning: careful" in text
    assert "hello" in capsys.readouterr().out
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"iteration": 1, "loss": None, "deep": {"x": [None, 2.0]}}]
    assert len(list((tmp_path / "tensorboard").glob("events*"))) == 1


def test_what_other_parts_of_the_package_say_is_in_the_log_while_the_run_lasts(tmp_path: Path) -> None:
    elsewhere = logging.getLogger("detector.weights.somewhere")
    package = logging.getLogger("detector")
    before = (list(package.handlers), package.level, package.propagate)
    with RunLog(tmp_path, rank=0):
        elsewhere.info("weights fetched")
    assert "weights fetched" in (tmp_path / "log.txt").read_text()
    assert (package.handlers, package.level, package.propagate) == before


def test_other_processes_write_no_files_and_only_warn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunLog(tmp_path, rank=2) as log:
        log.begin_numbers(Progress(), tensorboard=True)
        log.info("hello")
        log.warning("careful")
        log.metrics({"iteration": 1})
        log.scalars(1, {"loss/total": 1.0})
    assert list(tmp_path.iterdir()) == []
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "warning (process 2): careful" in captured.err


def test_a_resumed_run_has_every_iteration_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [
        {"iteration": 10, "loss": 1.0},
        {"iteration": 20, "loss": 2.0},
        {"iteration": 20, "evaluation": {"AP": 0.1}},  # done after the checkpoint of iteration 20: will be repeated
        {"iteration": 30, "loss": 3.0},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"iteration": 4')
    forget_metrics_after(path, Progress(iteration=20, evaluated_iteration=10))
    assert read_metrics(path) == lines[:2]
    forget_metrics_after(tmp_path / "none.jsonl", Progress())


def test_names_with_odd_line_ends_lose_no_line(tmp_path: Path) -> None:
    names = ["a\u2028b", "a\u2029b", "a\x85b", "a\x0bb", "a\x1cb", "a\rb", "a\nb"]
    lines = [{"iteration": i, "evaluation": {"per_class": [{"name": name}]}} for i, name in enumerate(names, 1)]
    with RunLog(tmp_path, rank=0) as log:
        for line in lines:
            log.metrics(line)
    forget_metrics_after(tmp_path / "metrics.jsonl", Progress(iteration=9, evaluated_iteration=9))
    assert read_metrics(tmp_path / "metrics.jsonl") == lines


def open_numbers(folder: Path) -> None:
    with RunLog(folder, rank=0) as log:
        log.begin_numbers(Progress(), tensorboard=True)


def test_something_else_in_the_place_of_a_log_is_one_sentence(tmp_path: Path) -> None:
    package = logging.getLogger("detector")
    before = (list(package.handlers), package.level, package.propagate)
    (tmp_path / "a" / "log.txt").mkdir(parents=True)
    with pytest.raises(UserError, match=r"log\.txt: cannot be opened for the log \(Is a directory\); move it away"):
        open_numbers(tmp_path / "a")
    assert (package.handlers, package.level, package.propagate) == before
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "tensorboard").write_text("a file")
    with pytest.raises(UserError, match=r"tensorboard: cannot be opened for TensorBoard's events \(.*\); move it away"):
        open_numbers(tmp_path / "b")


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits")
def test_a_full_disk_loses_the_log_and_not_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(threading.enumerate())
    with RunLog(tmp_path, rank=0) as log:
        log.begin_numbers(Progress(), tensorboard=True)
        log.scalars(1, {"loss/total": 1.0})
        with file_size_limit(0):
            log.info("line one")
            log.info("line two")
            log.metrics({"iteration": 1})
            log.scalars(2, {"loss/total": 1.0})
            log.flush()
            log.scalars(3, {"loss/total": 1.0})
        log.info("room again")
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    captured = capsys.readouterr()
    # One line for each file that is lost: no traceback, of no thread.
    (lost_log,) = captured.err.splitlines()
    assert "cannot write the log" in lost_log
    *lines, numbers, events, room_again = captured.out.splitlines()
    assert len(lines) == 2
    assert "cannot write the numbers" in numbers
    assert "warning: TensorBoard events cannot be written any more (File too large)" in events
    assert "room again" in room_again


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_in_use_grows_with_an_array() -> None:
    size, before = 256_000_000, memory_in_use()
    with mmap.mmap(-1, size) as fresh:  # an array might get memory that was freed but kept
        np.frombuffer(fresh, np.uint8)[:] = 1
        assert memory_in_use() - before > 0.8 * size


def test_a_line_that_a_full_disk_cut_short_costs_none_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with RunLog(tmp_path, rank=0) as log:
        for iteration in (1, 3):
            log.metrics({"iteration": iteration})
            with file_size_limit(path.stat().st_size + 5):
                log.metrics({"iteration": iteration + 1})
            assert path.read_bytes().endswith(b'}\n{"ite')
        log.metrics({"iteration": 5})
    assert [row["iteration"] for row in read_metrics(path)] == [1, 3, 5]


def test_every_start_from_a_checkpoint_has_events_that_hide_later_ones(tmp_path: Path) -> None:
    for iteration, steps in ((0, (1, 2, 3)), (2, (3, 4))):  # killed at 3, with a checkpoint of 2
        with RunLog(tmp_path, rank=0) as log:
            log.begin_numbers(Progress(iteration=iteration), tensorboard=True)
            for step in steps:
                log.scalars(step, {"loss/total": step + 0.5 * iteration})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    points = [(point.step, point.value) for point in events.Scalars("loss/total")]
    assert points == [(1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0)]


def test_that_numbers_are_lost_is_said_once_until_they_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with RunLog(tmp_path, rank=0) as log:
        monkeypatch.setattr(log, "warning", said.append)
        for limit in (0, 0, 100, 100, 0):
            with file_size_limit(limit):
                log.metrics({"iteration": 1})
    assert len(said) == 2
    assert "metrics.jsonl: cannot write the numbers of this run (File too large)" in said[0]
