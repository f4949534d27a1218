"""Files of version 0.1, whose checkpoints knew neither annotations nor evaluations, are read and gone on with.

`of_version_0_1` is what a run of six iterations left when it was stopped after four (no momentum, to keep it small).
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_run import losses, write_dataset

import detector
from detector.config import load_config
from detector.training.engine import Outcome, train
from detector.training.state.checkpoint import load_checkpoint
from detector.weights.files import read_weights

FOLDER = Path(__file__).parent / "of_version_0_1"
CHECKPOINT = FOLDER / "checkpoints" / "iteration_0000004"

# What that version's run reported of iterations 5 and 6 when it was not stopped.
LOSSES = {"roi_box": 0.094354, "roi_class": 0.757067, "rpn_box": 0.081367, "rpn_objectness": 0.692289}


def test_the_checkpoint_is_read() -> None:
    state = load_checkpoint(CHECKPOINT)
    assert state.progress.iteration == 4
    assert (state.progress.evaluated_iteration, state.progress.best_iteration, state.progress.best_ap) == (3, 3, 0.0)
    assert state.config.train.iterations == 6
    assert state.config.train.learning_rate == 0.01
    assert state.categories.names == ["red", "blue"]
    assert state.annotations == {}


def test_its_weights_detect() -> None:
    weights = CHECKPOINT / "model.safetensors"
    assert read_weights(weights).categories.names == ["red", "blue"]
    predictor = detector.load(str(weights), device="cpu")
    detections = predictor.predict(torch.zeros(3, 96, 128, dtype=torch.uint8).numpy().transpose(1, 2, 0))
    assert detections.boxes.shape[1] == 4


def test_the_run_goes_on_as_it_would_have(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    shutil.copytree(FOLDER, tmp_path / "run")
    config = load_config(tmp_path / "run/config.yaml", data)
    assert train(config, tmp_path / "run", resume=True, device="cpu") == Outcome(6, 0)
    # To rounding: kernels differ between processors and versions of torch.
    assert losses(tmp_path / "run")[6] == pytest.approx(LOSSES, rel=1e-3)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().split("\n") if line]
    assert [line["iteration"] for line in lines if "evaluation" in line] == [3, 6]
