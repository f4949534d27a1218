from pathlib import Path

import pytest
import torch

from detector.categories import CategoryMap
from detector.config import Config
from detector.errors import UserError
from detector.training.nonfinite import TrainingDivergedError
from detector.training.report.logs import RunLog
from detector.training.state import saving
from detector.training.state.checkpoint import CheckpointError, TrainingState
from detector.training.state.checkpoint_names import list_checkpoints
from detector.training.state.progress import Progress
from detector.training.state.saving import CheckpointWriter, first_non_finite


def make_state(iteration: int, value: float = 1.0) -> TrainingState:
    return TrainingState(
        config=Config(),
        categories=CategoryMap.from_names([]),
        world_size=1,
        progress=Progress(iteration=iteration),
        model={"backbone.conv1.weight": torch.full((2, 2), value)},
    )


def test_keeps_the_newest_ones(tmp_path: Path) -> None:
    with RunLog(tmp_path, rank=0) as log:
        writer = CheckpointWriter(tmp_path, keep=2, iteration=0, log=log)
        for iteration in (10, 20, 30):
            writer.save(make_state(iteration))
    assert [p.name for p in list_checkpoints(tmp_path)] == ["iteration_0000030", "iteration_0000020"]
    assert writer.saved_iteration == 30


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_poisoned_weights_are_never_saved(tmp_path: Path, value: float) -> None:
    with RunLog(tmp_path, rank=0) as log:
        writer = CheckpointWriter(tmp_path, keep=2, iteration=0, log=log)
        writer.save(make_state(10))
        with pytest.raises(TrainingDivergedError, match=r"backbone\.conv1\.weight is not finite at iteration 20"):
            writer.save(make_state(20, value))
        poisoned = make_state(30)
        poisoned.momentum = {"backbone.conv1.weight": torch.full((2, 2), value)}
        with pytest.raises(TrainingDivergedError, match="momentum of"):
            writer.save(poisoned)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["iteration_0000010"]


def test_failures_are_survived_and_the_third_in_a_row_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_folder: Path, _state: TrainingState) -> Path:
        raise CheckpointError("no space left.")

    real = saving.save_checkpoint
    with RunLog(tmp_path, rank=0) as log:
        writer = CheckpointWriter(tmp_path, keep=2, iteration=0, log=log)
        writer.save(make_state(10))
        monkeypatch.setattr(saving, "save_checkpoint", fail)
        writer.save(make_state(20))
        writer.save(make_state(30))
        assert writer.saved_iteration == 10
        monkeypatch.setattr(saving, "save_checkpoint", real)
        writer.save(make_state(40))  # room again: the count starts anew
        monkeypatch.setattr(saving, "save_checkpoint", fail)
        writer.save(make_state(50))
        writer.save(make_state(60))
        with pytest.raises(UserError, match="3rd failure in a row; make room and --resume from iteration 40"):
            writer.save(make_state(70))
    assert "Training goes on; the newest checkpoint is that of iteration 10" in capsys.readouterr().out
    assert [p.name for p in list_checkpoints(tmp_path)] == ["iteration_0000040", "iteration_0000010"]


def test_an_old_checkpoint_that_cannot_be_deleted_is_said_and_is_no_failed_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_folder: Path, _keep: int) -> None:
        raise CheckpointError("cannot delete an old checkpoint.")

    monkeypatch.setattr(saving, "prune", fail)
    with RunLog(tmp_path, rank=0) as log:
        writer = CheckpointWriter(tmp_path, keep=2, iteration=0, log=log)
        for iteration in range(1, saving.MAX_FAILURES + 3):
            writer.save(make_state(iteration))
            assert writer.saved_iteration == iteration
    shown = capsys.readouterr().out
    assert shown.count("cannot delete an old checkpoint.") == saving.MAX_FAILURES + 2
    assert "Training goes on" not in shown


def test_first_non_finite() -> None:
    assert first_non_finite({"a": torch.ones(2), "n": torch.tensor(3)}) is None
    assert first_non_finite({"a": torch.ones(2), "b": torch.tensor([1.0, float("inf")])}) == "b"
