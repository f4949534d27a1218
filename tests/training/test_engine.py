import json
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from tiny_run import assert_same_bits, losses, tiny_config, write_dataset
from torch import Tensor

from detector.config import load_config
from detector.datasets.loading.batch import TrainingBatch
from detector.errors import UserError
from detector.training import engine
from detector.training.engine import Outcome, train
from detector.training.nonfinite import TrainingDivergedError
from detector.training.run.parts import Run
from detector.training.state import saving
from detector.training.state.checkpoint import CheckpointError, load_checkpoint
from detector.training.state.checkpoint_names import list_checkpoints
from detector.weights.files import read_weights

# Everything that has a state: averaged weights, accumulation, clipping, bfloat16, live statistics.
EVERYTHING = [
    "train.ema_decay=0.9",
    "train.accumulate=2",
    "train.clip_gradient_norm=1.0",
    "train.precision=bfloat16",
    "model.backbone.norm=batch",
    "train.schedule=cosine",
    "data.augment.color_jitter=0.5",
    "data.augment.crop=0.5",
]
VARIANTS = {"plain": list[str](), "everything": EVERYTHING}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def straight(data: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of uninterrupted runs."""
    folders = {}
    for name, settings in VARIANTS.items():
        folders[name] = tmp_path_factory.mktemp("straight") / name
        assert train(tiny_config(data, *settings), folders[name], device="cpu") == Outcome(12, 0)
    return folders


def test_what_a_run_leaves(straight: dict[str, Path]) -> None:
    output = straight["plain"]
    names = {p.name for p in output.iterdir()}
    assert names == {
        ".lock",
        "checkpoints",
        "config.yaml",
        "evaluation",
        "log.txt",
        "metrics.jsonl",
        "model_best.safetensors",
        "model_final.safetensors",
        "samples",
    }
    assert [p.name for p in list_checkpoints(output / "checkpoints")] == [
        f"iteration_{i:07d}" for i in (12, 8, 6)
    ]  # 4 was pruned
    assert list(losses(output)) == list(range(1, 13))
    metrics = json.loads((output / "evaluation/metrics.json").read_text())
    assert metrics["iteration"] == 12
    assert set(metrics["validation_losses"]) == {"rpn_objectness", "rpn_box", "roi_class", "roi_box"}
    assert isinstance(json.loads((output / "evaluation/detections.json").read_text()), list)
    assert "COCO metrics" in (output / "evaluation/report.html").read_text()
    assert (output / "evaluation/report.csv").is_file()
    steps = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert all(step["gradient_norm"] > 0 for step in steps if "losses" in step)
    picture = cv2.imread(str(next((output / "samples").iterdir())))
    assert picture.shape[1] > 2 * 96
    text = (output / "log.txt").read_text()
    assert "trained" in text
    assert "Average Precision  (AP) @[ IoU=0.50:0.95" in text

    weights = read_weights(output / "model_final.safetensors")
    assert [(c.id, c.name) for c in weights.categories.categories] == [(3, "red"), (7, "blue")]
    assert weights.config.model.num_classes == 2
    assert weights.provenance["iterations"] == 12
    assert weights.provenance["images"] == 48
    assert weights.provenance["data"] == "train.json"  # without its folder
    assert weights.provenance["evaluated_on"] == "val.json"
    assert weights.provenance["metrics"]["AP"] == metrics["AP"]
    settings = load_config(output / "config.yaml")
    assert (weights.config.model, weights.config.input) == (settings.model, settings.input)
    assert weights.config.data.val_annotations is None, "which data it was is no business of whoever gets the file"


def test_the_losses_fall_and_a_seed_repeats_them(data: list[str], straight: dict[str, Path], tmp_path: Path) -> None:
    expected = losses(straight["plain"])
    train(tiny_config(data), tmp_path / "again", device="cpu")
    assert losses(tmp_path / "again") == expected
    other = tiny_config(data, "train.seed=1", "train.iterations=6")
    train(other, tmp_path / "other", device="cpu")
    assert losses(tmp_path / "other")[1] != expected[1]


def test_what_is_wrong_with_the_data_is_said_at_the_start(tmp_path: Path) -> None:
    words = write_dataset(tmp_path)
    content = json.loads((tmp_path / "train.json").read_text())
    content["annotations"] += [
        {"id": 90, "image_id": 1, "category_id": 3, "bbox": [120, 0, 20, 20]},
        {"id": 91, "image_id": 1, "category_id": 3, "bbox": [1, 1, 0, 20]},
    ]
    (tmp_path / "train.json").write_text(json.dumps(content))
    words[3] = words[1].replace("train_", "val_")  # the pictures of both splits
    train(tiny_config(words, "train.iterations=1", "train.milestones=[]"), tmp_path / "run", device="cpu")
    warnings = [line for line in (tmp_path / "run/log.txt").read_text().splitlines() if "warning" in line]
    assert len(warnings) == 3
    assert "train.json: 1 × a box without area inside its picture, left out" in warnings[0]
    assert "train.json: 1 × box-partly-outside" in warnings[1]
    assert "train.json: 5 × in-both-splits" in warnings[2]


def test_the_val_annotations_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be a large file on a slow disk, and change while the run lasts."""
    words = write_dataset(tmp_path)
    real = engine.report_steps

    def report(run: Run, values: dict[str, Any]) -> None:
        real(run, values)
        (tmp_path / "val.json").unlink(missing_ok=True)

    monkeypatch.setattr(engine, "report_steps", report)
    config = tiny_config(words, "train.iterations=2", "train.milestones=[]", "train.evaluate_every=1")
    assert train(config, tmp_path / "run", device="cpu") == Outcome(2, 0)
    evaluations = [line for line in (tmp_path / "run/log.txt").read_text().splitlines() if "evaluation at" in line]
    assert len(evaluations) == 2


def stop_at(iteration: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send this process SIGTERM during the given iteration."""
    real = engine.report_steps

    def report(run: Run, values: dict[str, Any]) -> None:
        real(run, values)
        if values["iteration"] == iteration:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(engine, "report_steps", report)


@pytest.mark.parametrize("variant", ["plain", "everything"])
def test_interrupted_runs_end_with_the_same_bits(
    data: list[str], straight: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    # 3: between checkpoints and in the warm-up; 6: an evaluation is due; 8: a checkpoint is due, and the milestone.
    for iteration in (3, 6, 8):
        with monkeypatch.context() as patch:
            stop_at(iteration, patch)
            outcome = train(tiny_config(data, *VARIANTS[variant]), tmp_path / "run", resume=True, device="cpu")
        assert outcome == Outcome(iteration, signal.SIGTERM)
        assert list_checkpoints(tmp_path / "run/checkpoints")[0].name == f"iteration_{iteration:07d}"
    assert train(tiny_config(data, *VARIANTS[variant]), tmp_path / "run", resume=True, device="cpu") == Outcome(12, 0)
    for name in (
        "model_final.safetensors",
        "model_best.safetensors",
        "checkpoints/iteration_0000012/momentum.safetensors",
    ):
        assert_same_bits(straight[variant] / name, tmp_path / "run" / name)
    assert losses(tmp_path / "run") == losses(straight[variant])
    assert read_json(tmp_path / "run/evaluation/metrics.json") == read_json(
        straight[variant] / "evaluation/metrics.json"
    )


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def test_a_damaged_checkpoint_costs_only_the_way_back(
    data: list[str], straight: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(straight["plain"], tmp_path / "run")
    (tmp_path / "run/model_final.safetensors").unlink()
    momentum = tmp_path / "run/checkpoints/iteration_0000012/momentum.safetensors"
    momentum.write_bytes(momentum.read_bytes()[:-1])
    assert train(tiny_config(data), tmp_path / "run", resume=True, device="cpu") == Outcome(12, 0)
    assert_same_bits(straight["plain"] / "model_final.safetensors", tmp_path / "run/model_final.safetensors")
    assert "momentum.safetensors does not match its checksum" in (tmp_path / "run/log.txt").read_text()


def test_a_finished_run_is_left_alone_or_taken_further(
    data: list[str], straight: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(straight["plain"], tmp_path / "run")
    with pytest.raises(UserError, match="holds a run already"):
        train(tiny_config(data), tmp_path / "run", device="cpu")
    assert train(tiny_config(data), tmp_path / "run", resume=True, device="cpu") == Outcome(12, 0)
    assert "is finished" in capsys.readouterr().out
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == (straight["plain"] / "metrics.jsonl").read_bytes()
    config = (tmp_path / "run/config.yaml").read_bytes()
    assert train(tiny_config(data, "train.iterations=8"), tmp_path / "run", resume=True, device="cpu") == Outcome(12, 0)
    assert (tmp_path / "run/config.yaml").read_bytes() == config  # of the models that are there
    longer = tiny_config(data, "train.iterations=14")
    assert train(longer, tmp_path / "run", resume=True, device="cpu") == Outcome(14, 0)
    assert read_weights(tmp_path / "run/model_final.safetensors").provenance["iterations"] == 14
    short = tiny_config(data, "train.iterations=2")
    assert train(short, tmp_path / "run", overwrite=True, device="cpu") == Outcome(2, 0)
    assert list(losses(tmp_path / "run")) == [1, 2]


def test_without_a_whole_checkpoint_no_model_is_replaced(
    data: list[str], straight: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(straight["plain"], tmp_path / "run")
    for path in list_checkpoints(tmp_path / "run/checkpoints"):
        (path / "progress.json").write_bytes(b"")
    kept = ("model_best.safetensors", "model_final.safetensors", "metrics.jsonl", "config.yaml")
    before = {name: (tmp_path / "run" / name).read_bytes() for name in kept if (straight["plain"] / name).exists()}
    with pytest.raises(UserError, match="no whole checkpoint to resume from, and a run from the beginning would"):
        train(tiny_config(data, "train.log_every=2"), tmp_path / "run", resume=True, device="cpu")
    assert {name: (tmp_path / "run" / name).read_bytes() for name in before} == before
    assert len(before) >= 3


def spoil(
    steps: Sequence[int], monkeypatch: pytest.MonkeyPatch, how: Callable[[Run, list[dict[str, Tensor]]], None]
) -> None:
    """Let the forward and backward passes of some steps (from 1) go wrong."""
    real = engine.forward_backward
    count = 0

    def stand_in(joint: torch.nn.Module, batches: list[TrainingBatch], *rest: Any) -> list[dict[str, Tensor]]:
        nonlocal count
        count += 1
        found = real(joint, batches, *rest)
        if count in steps:
            how(joint, found)
        return found

    monkeypatch.setattr(engine, "forward_backward", stand_in)


def infinite_gradient(joint: Any, _found: list[dict[str, Tensor]]) -> None:
    joint.model.rpn.conv.bias.grad[0] = float("inf")


def infinite_loss(_joint: Any, found: list[dict[str, Tensor]]) -> None:
    found[0]["roi_box"] = torch.tensor(float("nan"))


@pytest.mark.parametrize("how", [infinite_gradient, infinite_loss])
def test_a_step_that_is_not_finite_changes_no_weight(
    data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Callable[..., None]
) -> None:
    settings = ["model.backbone.norm=batch", "train.save_every=1", "train.keep_checkpoints=9", "train.iterations=4"]
    spoil([3], monkeypatch, how)
    train(tiny_config(data, *settings, "train.ema_decay=0.9"), tmp_path, device="cpu")
    second, third, fourth = (load_checkpoint(tmp_path / f"checkpoints/iteration_000000{i}") for i in (2, 3, 4))
    assert third.progress.iteration == 3
    assert third.progress.skipped_steps == 1
    assert fourth.progress.skipped_in_a_row == 0
    assert second.averaged is not None
    assert third.averaged is not None
    for before, after in (
        (second.model, third.model),
        (second.averaged, third.averaged),
        (second.momentum, third.momentum),
    ):
        assert all(torch.equal(before[k], after[k]) for k in before)
    assert not torch.equal(third.model["rpn.conv.bias"], fourth.model["rpn.conv.bias"])
    (line,) = (tmp_path / "nonfinite.jsonl").read_text().splitlines()
    assert json.loads(line)["iteration"] == 3
    assert len(json.loads(line)["batches"][0]["image_ids"]) == 4


def test_too_many_of_them_end_the_run_with_a_sentence_and_no_poisoned_checkpoint(
    data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(range(5, 100), monkeypatch, infinite_loss)
    with pytest.raises(TrainingDivergedError, match=r"3 steps in a row .* roi_box = nan with images \d+"):
        train(tiny_config(data, "train.max_skipped_steps=3"), tmp_path, device="cpu")
    newest = load_checkpoint(list_checkpoints(tmp_path / "checkpoints")[0])
    assert newest.progress.iteration == 6
    assert all(t.isfinite().all() for t in newest.model.values() if t.is_floating_point())


def test_a_disk_that_fills_up_does_not_end_the_run(
    data: list[str], straight: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = saving.save_checkpoint
    calls: list[int] = []

    def full(folder: Path, state: Any) -> Path:
        calls.append(state.progress.iteration)
        if state.progress.iteration in (6, 8):
            raise CheckpointError("no space left on device.")
        return real(folder, state)

    monkeypatch.setattr(saving, "save_checkpoint", full)
    assert train(tiny_config(data), tmp_path, device="cpu") == Outcome(12, 0)
    assert calls == [4, 6, 8, 12]
    assert_same_bits(straight["plain"] / "model_final.safetensors", tmp_path / "model_final.safetensors")


def test_patience(data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detector.training.run.assess.update_best", never_better)
    config = tiny_config(data, "train.patience=2", "train.evaluate_every=2", "train.iterations=100")
    assert train(config, tmp_path, device="cpu") == Outcome(4, 0)
    assert read_weights(tmp_path / "model_final.safetensors").provenance["iterations"] == 4


def never_better(progress: Any, iteration: int, _ap: float) -> bool:
    progress.evaluated_iteration = iteration
    progress.evaluations_without_gain += 1
    return False


def test_without_a_val_split(data: list[str], tmp_path: Path) -> None:
    config = tiny_config([word for word in data if ".val_" not in word], "train.iterations=2")
    assert train(config, tmp_path, device="cpu") == Outcome(2, 0)
    assert not (tmp_path / "evaluation").exists()
    assert read_weights(tmp_path / "model_final.safetensors").provenance["metrics"] is None


def test_other_classes_or_another_network_are_not_resumed(
    data: list[str], straight: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(straight["plain"], tmp_path / "run")
    wider = tiny_config(data, "model.rpn.channels=24", "train.iterations=14")
    with pytest.raises(UserError, match=r"the checkpoint is of another network: .*rpn\.conv\.weight"):
        train(wider, tmp_path / "run", resume=True, device="cpu")


def test_constant_norms_from_scratch_are_refused(data: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="frozen_batch needs trained weights"):
        train(tiny_config(data, "model.backbone.norm=frozen_batch"), tmp_path, device="cpu")


def test_starting_from_weights(data: list[str], straight: dict[str, Path], tmp_path: Path) -> None:
    weights = straight["plain"] / "model_final.safetensors"
    settings = [f"model.weights={weights}", "train.iterations=1", "train.learning_rate=1e-12"]
    train(tiny_config(data, *settings), tmp_path, device="cpu")
    first, second = (read_weights(p) for p in (weights, tmp_path / "model_final.safetensors"))
    assert all(torch.allclose(first.state_dict[k], second.state_dict[k], atol=1e-9) for k in first.state_dict)
    assert second.provenance["started_from"] == weights.name
    assert "tensors came from it" in (tmp_path / "log.txt").read_text()
