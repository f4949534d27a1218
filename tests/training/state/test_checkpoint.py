import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import checkpoint_states
import pytest
import torch
from checkpoint_states import FILES, assert_equal, make_state, rewrite

from detector.training.state.checkpoint import (
    CheckpointError,
    find_damage,
    load_checkpoint,
    save_checkpoint,
    save_evaluation,
)
from detector.training.state.checkpoint_names import list_checkpoints
from detector.training.state.newest import load_newest


def test_round_trip(tmp_path: Path) -> None:
    state = make_state(7)
    path = save_checkpoint(tmp_path / "checkpoints", state)
    assert path.name == "iteration_0000007"
    assert sorted(p.name for p in path.iterdir()) == FILES
    assert_equal(load_checkpoint(path), state)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_without_average_and_momentum(tmp_path: Path) -> None:
    state = make_state(0)
    state.averaged, state.momentum = None, {}
    found = load_checkpoint(save_checkpoint(tmp_path, state))
    assert found.averaged is None
    assert found.momentum == {}


def test_a_whole_checkpoint_of_the_same_iteration_is_kept_and_a_torn_one_replaced(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, make_state(1))
    before = (path / "manifest.json").stat().st_ino
    save_checkpoint(tmp_path, make_state(1))
    assert (path / "manifest.json").stat().st_ino == before
    (path / "momentum.safetensors").write_bytes(b"")
    save_checkpoint(tmp_path, make_state(1))
    assert_equal(load_checkpoint(path), make_state(1))


@pytest.mark.parametrize("value", ["7", None, True, [], 1.5])
def test_progress_of_a_wrong_type_is_refused(tmp_path: Path, value: Any) -> None:
    path = save_checkpoint(tmp_path, make_state(1))
    stored = json.loads((path / "progress.json").read_text())
    stored["progress"]["iteration"] = value
    rewrite(path, stored)
    with pytest.raises(CheckpointError, match="iteration is"):
        load_checkpoint(path)


def test_an_evaluation_is_added_to_the_checkpoint_of_its_iteration(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, make_state(7))
    others = {p.name: p.read_bytes() for p in path.iterdir()}
    after = replace(make_state(7).progress, evaluated_iteration=7, best_iteration=7, best_ap=0.5)
    save_evaluation(tmp_path, after)
    assert load_checkpoint(path).progress == after
    assert {p.name: p.read_bytes() for p in path.iterdir() if p.name != "evaluation.json"} == others
    save_evaluation(tmp_path, replace(after, iteration=8))  # there is no such checkpoint, and none is made
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("cut", [0, 10, -5])
def test_an_evaluation_that_is_damaged_is_damage(tmp_path: Path, cut: int) -> None:
    path = save_checkpoint(tmp_path, make_state(7))
    save_evaluation(tmp_path, make_state(7).progress)
    assert find_damage(path) is None
    file = path / "evaluation.json"
    file.write_bytes(file.read_bytes()[:cut])
    assert find_damage(path) == "evaluation.json does not match its checksum"
    with pytest.raises(CheckpointError, match=r"evaluation\.json does not match"):
        load_checkpoint(path)


def fail_at(call: int, real: Callable[..., Any], code: int) -> Callable[..., Any]:
    """`real`, except that its call number `call` (from 0) raises."""
    count = -1

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == call:
            raise OSError(code, os.strerror(code))
        return real(*args, **kwargs)

    return stand_in


@pytest.mark.parametrize(
    ("function", "code", "at_least"),
    [("fsync", errno.EIO, 8), ("rename", errno.EIO, 1), ("replace", errno.EROFS, 2), ("mkdir", errno.ENOSPC, 1)],
)
def test_every_single_failure_is_one_sentence_and_the_old_checkpoint_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, code: int, at_least: int
) -> None:
    save_checkpoint(tmp_path, make_state(1))
    failures = 0
    for call in range(100):
        message = ""
        with monkeypatch.context() as patch:
            patch.setattr(os, function, fail_at(call, getattr(os, function), code))
            try:
                save_checkpoint(tmp_path, make_state(2))
            except CheckpointError as error:
                message = str(error)
        if not message:
            break
        failures += 1
        assert "iteration_0000002: cannot write the checkpoint" in message
        newest = load_newest(tmp_path, pytest.fail)
        assert newest is not None
        # The very last sync may fail after the rename: then the new one is whole already.
        assert_equal(newest[1], make_state(newest[1].progress.iteration))
        assert not list(tmp_path.glob(".iteration*"))
        shutil.rmtree(tmp_path / "iteration_0000002", ignore_errors=True)
    assert failures >= at_least
    assert_equal(load_checkpoint(tmp_path / "iteration_0000002"), make_state(2))


FULL_DISK = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from checkpoint_states import make_state
from detector.training.state.checkpoint import CheckpointError, save_checkpoint
folder = Path(sys.argv[2])
save_checkpoint(folder, make_state(1))
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for limit in (0, 100, 5000, 12000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        save_checkpoint(folder, make_state(2))
    except CheckpointError as error:
        print(error)
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, str(Path(checkpoint_states.__file__).parent), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits")
def test_writes_that_the_system_cuts_short(tmp_path: Path) -> None:
    with start(FULL_DISK, str(tmp_path)) as child:
        output, _ = child.communicate(timeout=600)  # on a busy machine torch takes minutes to import
    assert output.count("iteration_0000002: cannot write the checkpoint") == 4
    assert [p.name for p in tmp_path.iterdir()] == ["iteration_0000001"]
    assert find_damage(tmp_path / "iteration_0000001") is None


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from checkpoint_states import make_state
from detector.training.state.checkpoint import save_checkpoint
from detector.training.state.newest import prune
folder = Path(sys.argv[2])
for iteration in range(int(sys.argv[3]), 10**6):
    save_checkpoint(folder, make_state(iteration, size=2000))
    print("saved", flush=True)
    prune(folder, keep=2)
"""


def test_a_kill_at_any_moment_leaves_only_whole_checkpoints(tmp_path: Path) -> None:
    first = 1
    for attempt in range(2):
        with start(WRITER, str(tmp_path), str(first)) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "saved\n"  # however long that takes on a busy machine
            time.sleep(0.1 + 0.137 * attempt)
            child.kill()
        found = list_checkpoints(tmp_path)
        assert 1 <= len(found) <= 3
        for path in found:
            state = load_checkpoint(path)
            assert torch.equal(
                state.model["backbone.conv1.weight"],
                make_state(state.progress.iteration, size=2000).model["backbone.conv1.weight"],
            )
        first = load_checkpoint(found[0]).progress.iteration + 1
