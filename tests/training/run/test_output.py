import errno
import os
import shutil
import sys
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from detector.errors import UserError
from detector.training.run.output import check_no_models, check_room, claim, holds_run, is_finished, locked

Usage = namedtuple("Usage", ["total", "used", "free"])


def make_run(output: Path, finished: bool = True) -> None:
    (output / "checkpoints" / "iteration_0000010").mkdir(parents=True)
    (output / "config.yaml").write_text("train: {}")
    (output / "notes.txt").write_text("the user's own")
    if finished:
        (output / "model_final.safetensors").write_bytes(b"")


def test_a_new_folder_is_made(tmp_path: Path) -> None:
    claim(tmp_path / "a" / "b", resume=False, overwrite=False)
    assert (tmp_path / "a" / "b" / "checkpoints").is_dir()
    assert not list((tmp_path / "a" / "b" / "checkpoints").iterdir())
    assert not holds_run(tmp_path / "a" / "b")


@pytest.mark.parametrize("finished", [True, False])
def test_an_earlier_run_is_neither_continued_nor_deleted_unasked(tmp_path: Path, finished: bool) -> None:
    make_run(tmp_path, finished)
    assert is_finished(tmp_path) is finished
    with pytest.raises(UserError, match="holds a run already: --resume continues it"):
        claim(tmp_path, resume=False, overwrite=False)
    claim(tmp_path, resume=True, overwrite=False)
    assert holds_run(tmp_path)


def test_overwrite_deletes_the_run_and_nothing_else(tmp_path: Path) -> None:
    make_run(tmp_path)
    claim(tmp_path, resume=False, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoints", "notes.txt"]
    assert not list((tmp_path / "checkpoints").iterdir())


def test_what_a_run_without_checkpoints_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("an error at the start")
    claim(tmp_path, resume=False, overwrite=False)


def test_what_killed_starts_left_half_written_is_deleted(tmp_path: Path) -> None:
    make_run(tmp_path)
    (tmp_path / "evaluation").mkdir()
    torn = [tmp_path / ".model_best.safetensors.77.partial", tmp_path / "evaluation" / ".detections.json.8.partial"]
    others = [tmp_path / ".notes.partial", tmp_path / "model.9.partial"]
    for path in (*torn, *others):
        path.write_bytes(b"half")
    claim(tmp_path, resume=True, overwrite=False)
    assert not any(path.exists() for path in torn)
    assert all(path.exists() for path in others)


@pytest.mark.parametrize("name", ["model_best.safetensors", "model_final.safetensors"])
def test_models_that_a_run_from_the_beginning_would_replace(tmp_path: Path, name: str) -> None:
    check_no_models(tmp_path)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=rf"no whole checkpoint .* would replace its {name}; --weights .*/{name} with"):
        check_no_models(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"the output folder cannot be written .* --output"):
        claim(tmp_path / "file", resume=False, overwrite=False)


def test_a_folder_takes_one_run_at_a_time(tmp_path: Path) -> None:
    output = tmp_path / "a" / "b"
    for _ in range(2):
        with locked(output):
            with pytest.raises(UserError, match=r"b: another run is writing into this folder; .* --output\."):
                enter(output)
            with locked(tmp_path / "other"):
                pass
    assert [path.name for path in output.iterdir()] == [".lock"]


def enter(output: Path) -> None:
    with locked(output):
        pass


def test_a_folder_that_cannot_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"the output folder cannot be written .* --output"):
        enter(tmp_path / "file")

    @contextmanager
    def lockless(_path: Path, _on_wait: object) -> Iterator[None]:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        yield

    # Some network file systems have no locks: that is said, and the run goes on.
    monkeypatch.setattr("detector.training.run.output.hold", lockless)
    with locked(tmp_path / "run"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits")
def test_a_full_disk_is_said_before_training(tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(UserError, match="cannot be written"):
            claim(tmp_path, resume=False, overwrite=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_room_for_the_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10**10, 0, 10**9))
    warnings: list[str] = []
    check_room(tmp_path, 2 * 10**8, 3, warnings.append)  # 5 × 0.2 GB fit into 1 GB
    assert warnings == []
    check_room(tmp_path, 3 * 10**8, 3, warnings.append)
    assert "1.00 GB are free, and 3 checkpoints" in warnings[0]
    with pytest.raises(UserError, match=r"one checkpoint takes 2\.00 GB"):
        check_room(tmp_path, 2 * 10**9, 3, warnings.append)


def test_going_on_and_deleting_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give one of them"):
        claim(tmp_path, resume=True, overwrite=True)
