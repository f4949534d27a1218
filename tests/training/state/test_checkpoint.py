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

import pytest
import torch

from detector.categories import CategoryMap
from detector.config import Config, ModelConfig
from detector.datasets.fingerprint import Fingerprint
from detector.errors import UserError
from detector.training.state import checkpoint
from detector.training.state.checkpoint import (
    CheckpointError,
    Progress,
    TrainingState,
    find_damage,
    list_checkpoints,
    load_checkpoint,
    load_newest,
    prune,
    save_checkpoint,
    save_evaluation,
)
from detector.training.state.random_state import random_states

FILES = ["averaged.safetensors", "manifest.json", "model.safetensors", "momentum.safetensors", "progress.json"]


def make_state(iteration: int, size: int = 5) -> TrainingState:
    generator = torch.Generator().manual_seed(iteration)
    weights = {
        "backbone.conv1.weight": torch.randn(size, 3, 7, 7, generator=generator).to(memory_format=torch.channels_last),
        "backbone.norm1.num_batches_tracked": torch.tensor(iteration),
    }
    return TrainingState(
        config=Config(model=ModelConfig(num_classes=2)),
        categories=CategoryMap.from_names(["cat", "dog"]),
        world_size=2,
        progress=Progress(iteration=iteration, images=16 * iteration, seconds=1.5, best_ap=0.25, best_iteration=3),
        model=weights,
        averaged={k: v + 1 for k, v in weights.items()},
        momentum={"backbone.conv1.weight": weights["backbone.conv1.weight"] * 0.1},
        random=random_states(),
        unreported=[{"sums": {"rpn_box": 0.1}, "counted": 1}],
        annotations={"train": Fingerprint(10, 30, "ab")},
    )


def assert_equal(found: TrainingState, expected: TrainingState) -> None:
    assert found.config == expected.config
    assert found.categories == expected.categories
    assert found.world_size == expected.world_size
    assert found.progress == expected.progress
    assert found.random == expected.random
    assert found.unreported == expected.unreported
    assert found.annotations == expected.annotations
    for name in ("model", "averaged", "momentum"):
        first, second = getattr(found, name), getattr(expected, name)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[k], second[k]) for k in first)


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


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "flipped bit"])
def test_any_damage_is_found_and_the_checkpoint_before_is_taken(tmp_path: Path, name: str, damage: str) -> None:
    save_checkpoint(tmp_path, make_state(1))
    newest = save_checkpoint(tmp_path, make_state(2))
    file = newest / name
    data = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "truncated":
        file.write_bytes(data[: len(data) // 2])
    else:
        # Inside the manifest this flips a digit of a sum or breaks the JSON.
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    assert find_damage(newest) is not None
    warnings: list[str] = []
    found = load_newest(tmp_path, warnings.append)
    assert found is not None
    assert found[0].name == "iteration_0000001"
    assert len(warnings) == 1
    assert "iteration_0000002" in warnings[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["damaged_iteration_0000002", "iteration_0000001"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EMFILE, errno.ESTALE])
def test_what_may_not_be_read_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    save_checkpoint(tmp_path, make_state(1))
    newest = save_checkpoint(tmp_path, make_state(2))

    def refuse(path: Path) -> str:
        raise OSError(code, os.strerror(code), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "file_digest", refuse)
        with pytest.raises(UserError, match=rf"averaged\.safetensors: cannot be read \({os.strerror(code)}\), and may"):
            load_newest(tmp_path, pytest.fail)
        with pytest.raises(CheckpointError, match="cannot write the checkpoint"):
            save_checkpoint(tmp_path, make_state(2))
    found = load_newest(tmp_path, pytest.fail)
    assert found is not None
    assert found[0] == newest


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    assert load_newest(tmp_path / "none", pytest.fail) is None
    (tmp_path / "iteration_x").mkdir()
    (tmp_path / "iteration_0000003").write_text("a file")
    assert list_checkpoints(tmp_path) == []


def test_another_format_is_refused_and_not_taken_for_damage(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, make_state(1))
    stored = json.loads((path / "progress.json").read_text())
    stored["format"] = 99
    rewrite(path, stored)
    with pytest.raises(UserError, match="format 99 of our checkpoints is unknown"):
        load_newest(tmp_path, pytest.fail)


@pytest.mark.parametrize("value", ["7", None, True, [], 1.5])
def test_progress_of_a_wrong_type_is_refused(tmp_path: Path, value: Any) -> None:
    path = save_checkpoint(tmp_path, make_state(1))
    stored = json.loads((path / "progress.json").read_text())
    stored["progress"]["iteration"] = value
    rewrite(path, stored)
    with pytest.raises(CheckpointError, match="iteration is"):
        load_checkpoint(path)


def rewrite(path: Path, progress: dict[str, Any]) -> None:
    """Change progress.json and make the manifest agree."""
    import hashlib

    data = json.dumps(progress).encode()
    (path / "progress.json").write_bytes(data)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["sha256"]["progress.json"] = hashlib.sha256(data).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))


def test_prune_keeps_the_newest_and_clears_what_was_left_half_written(tmp_path: Path) -> None:
    for iteration in (1, 2, 10, 9):
        save_checkpoint(tmp_path, make_state(iteration))
    (tmp_path / ".iteration_0000011.123.partial").mkdir()
    (tmp_path / ".iteration_0000000.123.deleted").mkdir()
    prune(tmp_path, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["iteration_0000009", "iteration_0000010"]


@pytest.mark.parametrize("also_right", [False, True])
def test_a_checkpoint_that_was_renamed_is_taken_for_what_it_holds(tmp_path: Path, also_right: bool) -> None:
    for iteration in (1, 2, 3):
        save_checkpoint(tmp_path, make_state(iteration))
    shutil.copytree(tmp_path / "iteration_0000001", tmp_path / "iteration_9999999")
    if not also_right:
        shutil.rmtree(tmp_path / "iteration_0000001")
    warnings: list[str] = []
    newest = load_newest(tmp_path, warnings.append)
    assert newest is not None
    assert newest[0].name == "iteration_0000003"
    (said,) = warnings
    assert "iteration_9999999: its content is of iteration 1, " in said
    assert [p.name for p in list_checkpoints(tmp_path)] == [f"iteration_000000{i}" for i in (3, 2, 1)]
    assert load_checkpoint(tmp_path / "iteration_0000001").progress.iteration == 1


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


def test_a_failed_deletion_is_said_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for iteration in (1, 2, 3):
        save_checkpoint(tmp_path, make_state(iteration))

    def fail(_path: Path) -> None:
        raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(shutil, "rmtree", fail)
    with pytest.raises(CheckpointError, match="cannot delete an old checkpoint"):
        prune(tmp_path, keep=2)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["iteration_0000003", "iteration_0000002"]


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
from test_checkpoint import make_state, save_checkpoint, CheckpointError
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
    command = [sys.executable, "-c", code, str(Path(__file__).parent), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits")
def test_writes_that_the_system_cuts_short(tmp_path: Path) -> None:
    with start(FULL_DISK, str(tmp_path)) as child:
        output, _ = child.communicate(timeout=60)
    assert output.count("iteration_0000002: cannot write the checkpoint") == 4
    assert [p.name for p in tmp_path.iterdir()] == ["iteration_0000001"]
    assert find_damage(tmp_path / "iteration_0000001") is None


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_checkpoint import make_state, save_checkpoint, prune
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
