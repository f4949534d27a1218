import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from checkpoint_states import FILES, make_state, rewrite

from detector.errors import UserError
from detector.training.state import checkpoint
from detector.training.state.checkpoint import CheckpointError, find_damage, load_checkpoint, save_checkpoint
from detector.training.state.checkpoint_names import list_checkpoints
from detector.training.state.newest import load_newest, prune


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


def test_a_failed_deletion_is_said_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for iteration in (1, 2, 3):
        save_checkpoint(tmp_path, make_state(iteration))

    def fail(_path: Path) -> None:
        raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(shutil, "rmtree", fail)
    with pytest.raises(CheckpointError, match="cannot delete an old checkpoint"):
        prune(tmp_path, keep=2)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["iteration_0000003", "iteration_0000002"]
