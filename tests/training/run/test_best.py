"""The best model of a run survives whatever happens to the run."""

import json
import shutil
from pathlib import Path

import pytest
from tiny_run import tiny_config, write_dataset

from detector.config import Config
from detector.evaluation.coco_eval import CocoMetrics
from detector.training.engine import Outcome, train
from detector.training.run import assess, validation
from detector.training.run.assess import evaluation_line
from detector.training.state.checkpoint import load_checkpoint
from detector.training.state.checkpoint_names import list_checkpoints
from detector.training.state.progress import Progress
from detector.weights.files import read_weights


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_dataset(tmp_path_factory.mktemp("data"))


def score_by_iteration(monkeypatch: pytest.MonkeyPatch, aps: dict[int, float]) -> None:
    """Let evaluations come out with these APs, by iteration."""
    real = assess.update_best

    def update(progress: Progress, iteration: int, _ap: float) -> bool:
        return real(progress, iteration, aps[iteration])

    monkeypatch.setattr(assess, "update_best", update)


def evaluated(output: Path) -> list[int]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().split("\n") if line]
    return [line["iteration"] for line in lines if "evaluation" in line]


def log_of(output: Path) -> str:
    return (output / "log.txt").read_text()


@pytest.mark.parametrize("every", [0, 2], ids=["evaluated at the end only", "evaluated on the way too"])
def test_a_longer_run_with_a_worse_score_leaves_the_best_model_alone(
    data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    def config(iterations: int) -> Config:
        changes = [f"train.iterations={iterations}", f"train.evaluate_every={every}", "train.validation_loss=false"]
        return tiny_config(data, *changes, "train.milestones=[]")

    score_by_iteration(monkeypatch, {2: 0.1, 4: 0.1, 3: 0.5, 5: 0.25})
    train(config(3), tmp_path, device="cpu")
    best = (tmp_path / "model_best.safetensors").read_bytes()
    before = evaluated(tmp_path)
    assert before[-1] == 3

    train(config(5), tmp_path, resume=True, device="cpu")
    assert (tmp_path / "model_best.safetensors").read_bytes() == best
    assert evaluated(tmp_path) == [*before, 4, 5] if every else [*before, 5]
    assert "the best is still 0.5000 at iteration 3" in log_of(tmp_path)
    assert f"best model: {tmp_path}/model_best.safetensors (AP 0.5000 at iteration 3)" in log_of(tmp_path)
    progress = load_checkpoint(list_checkpoints(tmp_path / "checkpoints")[0]).progress
    assert (progress.best_ap, progress.best_iteration) == (0.5, 3)


def test_a_better_score_replaces_it(data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score_by_iteration(monkeypatch, {2: 0.25, 4: 0.5})
    settings = ["train.evaluate_every=0", "train.validation_loss=false", "train.milestones=[]"]
    train(tiny_config(data, *settings, "train.iterations=2"), tmp_path, device="cpu")
    best = (tmp_path / "model_best.safetensors").read_bytes()
    train(tiny_config(data, *settings, "train.iterations=4"), tmp_path, resume=True, device="cpu")
    assert (tmp_path / "model_best.safetensors").read_bytes() != best


class _KilledError(BaseException):
    pass


@pytest.mark.parametrize("where", ["save_model", "save_evaluation"])
def test_killed_while_an_evaluation_is_written_it_is_evaluated_again_even_if_the_run_is_then_longer(
    data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    score_by_iteration(monkeypatch, {2: 0.5, 4: 0.25})
    settings = ["train.evaluate_every=0", "train.validation_loss=false", "train.milestones=[]"]
    with monkeypatch.context() as patch:

        def killed(*_arguments: object) -> None:
            raise _KilledError

        patch.setattr(assess, where, killed)
        with pytest.raises(_KilledError):
            train(tiny_config(data, *settings, "train.iterations=2"), tmp_path, device="cpu")
    train(tiny_config(data, *settings, "train.iterations=4"), tmp_path, resume=True, device="cpu")
    assert evaluated(tmp_path) == [2, 4]
    assert "the best is still 0.5000 at iteration 2" in log_of(tmp_path)


def test_a_run_that_ran_out_of_patience_is_finished(
    data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_by_iteration(monkeypatch, {1: 0.5, 2: 0.25, 3: 0.25})
    settings = ["train.patience=2", "train.evaluate_every=1", "train.validation_loss=false"]
    config = tiny_config(data, *settings, "train.iterations=100")
    assert train(config, tmp_path, device="cpu") == Outcome(3, 0)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    assert train(config, tmp_path, resume=True, device="cpu") == Outcome(3, 0)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    assert "no better AP in 2 evaluations (train.patience): it ends." in log_of(tmp_path)
    assert "is finished; a larger train.patience than 2, or null, would take it further." in log_of(tmp_path)
    # Killed between the last evaluation and the final model: its numbers are those that were written.
    whole = read_weights(tmp_path / "model_final.safetensors").provenance
    (tmp_path / "model_final.safetensors").unlink()
    assert train(config, tmp_path, resume=True, device="cpu") == Outcome(3, 0)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    assert log_of(tmp_path).count("COCO metrics on the val split") == 2
    assert read_weights(tmp_path / "model_final.safetensors").provenance == whole
    assert {"AP", "AP50"} <= whole["metrics"].keys()


def numbers(ap: float) -> dict[str, object]:
    return CocoMetrics(*[ap] * 12, per_class=()).to_dict()


def test_an_undefined_ap_is_not_available_in_the_log() -> None:
    said = evaluation_line(numbers(-1.0), {}, Progress(iteration=6), better=False)
    assert said == "evaluation at iteration 6: AP n/a, AP50 n/a; there is no best yet"
    said = evaluation_line(numbers(0.25), {"roi_box": 0.5}, Progress(iteration=6, best_ap=0.5, best_iteration=3), False)
    assert said == (
        "evaluation at iteration 6: AP 0.2500, AP50 0.2500, validation loss 0.5000 (roi_box 0.5000); "
        "the best is still 0.5000 at iteration 3"
    )


def test_what_is_undefined_is_null_in_the_numbers_and_no_point_of_a_curve(
    data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A val split without a single object has no AP at all."""
    shutil.copytree(Path(data[2].split("=")[1]).parent, tmp_path / "data")
    content = json.loads((tmp_path / "data/val.json").read_text())
    (tmp_path / "data/val.json").write_text(json.dumps(content | {"annotations": []}))
    empty = [word.replace(str(Path(data[2].split("=")[1]).parent), str(tmp_path / "data")) for word in data]
    curves: dict[str, float] = {}
    monkeypatch.setattr("detector.training.report.logs.RunLog.scalars", lambda _log, _i, values: curves.update(values))
    output = tmp_path / "run"
    train(tiny_config(empty, "train.iterations=1", "train.milestones=[]"), output, device="cpu")
    assert not [name for name, value in curves.items() if value == -1 or name.startswith("val/AP")]
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().split("\n") if line]
    (evaluation,) = [line["evaluation"] for line in lines if "evaluation" in line]
    assert evaluation["AP"] is None
    assert [one["AP"] for one in evaluation["per_class"]] == [None, None]
    assert "-1" not in log_of(output).split("evaluation at iteration 1")[1].split("\n")[0]
    assert not (output / "model_best.safetensors").exists()
    assert validation.defined(0.0) == 0.0
    assert "next: faster-rcnn predict --weights" in log_of(output)
    assert f"{output}/model_final.safetensors PICTURE" in log_of(output)
