"""A run with averaged weights: what is saved and scored is the average, computed here by itself."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import tiny_config, write_dataset

from detector.datasets.formats.open_dataset import open_dataset
from detector.datasets.loading.loader import evaluation_loader, validation_loader
from detector.fast.fuse import fuse
from detector.inference.detect import detect_dataset
from detector.model.build import build_model
from detector.model.faster_rcnn import FasterRCNN
from detector.training import engine
from detector.training.joint import build_joint
from detector.training.state.checkpoint import load_checkpoint
from detector.weights.files import read_weights

CPU = torch.device("cpu")
DECAY, STEPS = 0.2, 4  # the first decays are those of the start: 1/10, 2/11, then 0.2 twice
SETTINGS = [
    f"train.ema_decay={DECAY}",
    f"train.iterations={STEPS}",
    "train.milestones=[]",
    "train.save_every=1",
    "train.keep_checkpoints=9",
    "train.evaluate_every=0",
    "train.learning_rate=0.05",
    "model.detection.score_threshold=0.001",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def output(data: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run; `first.pt` has the weights that it began with."""
    folder = tmp_path_factory.mktemp("run")
    real = engine.forward_backward

    def remember(joint: Any, *rest: Any) -> Any:
        if not (folder / "first.pt").exists():
            torch.save(joint.model.state_dict(), folder / "first.pt")
        return real(joint, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "forward_backward", remember)
        engine.train(tiny_config(data, *SETTINGS), folder, device="cpu")
    return folder


def live(output: Path, iteration: int) -> dict[str, torch.Tensor]:
    return load_checkpoint(output / f"checkpoints/iteration_{iteration:07d}").model


def average(output: Path) -> dict[str, torch.Tensor]:
    """Of the weights after every step: a ← decay · a + (1 − decay) · w, from the weights at the beginning."""
    averages = {k: v.double() for k, v in torch.load(output / "first.pt", weights_only=True).items()}
    for updates in range(STEPS):
        decay = min(DECAY, (1 + updates) / (10 + updates))
        weights = live(output, updates + 1)
        averages = {k: decay * v + (1 - decay) * weights[k].double() for k, v in averages.items()}
    return averages


def network(data: list[str], weights: dict[str, torch.Tensor]) -> FasterRCNN:
    config = tiny_config(data, *SETTINGS, "model.num_classes=2")
    model = build_model(config)
    model.load_state_dict({k: v.float() for k, v in weights.items()})
    return model.eval()


@pytest.mark.parametrize("name", ["model_final", "model_best"])
def test_the_average_is_what_is_saved(output: Path, name: str) -> None:
    saved = read_weights(output / f"{name}.safetensors").state_dict
    expected = average(output)
    for key, value in saved.items():
        torch.testing.assert_close(value.double(), expected[key], rtol=1e-5, atol=1e-6)
    last = live(output, STEPS)
    assert max(float((saved[k] - last[k]).abs().max()) for k in saved) > 1e-3  # and that is not the live one


def test_the_validation_losses_are_the_averages(output: Path, data: list[str]) -> None:
    def losses(weights: dict[str, torch.Tensor]) -> dict[str, float]:
        config = tiny_config(data, *SETTINGS, "model.num_classes=2")
        joint = build_joint(network(data, weights), config.model).eval()
        val = open_dataset("coco", *[word.split("=")[1] for word in data if ".val_" in word])
        with torch.inference_mode():
            parts = [joint(batch.images, batch.targets, batch.seeds) for batch in validation_loader(val, config)]
        return {name: math.fsum(float(part[name]) for part in parts) / len(parts) for name in parts[0]}

    reported = json.loads((output / "evaluation/metrics.json").read_text())["validation_losses"]
    assert reported == pytest.approx(losses(average(output)), rel=1e-3)
    assert reported != pytest.approx(losses(live(output, STEPS)), rel=1e-2)


def test_the_detections_are_the_averages(output: Path, data: list[str]) -> None:
    def scores(weights: dict[str, torch.Tensor]) -> list[float]:
        val = open_dataset("coco", *[word.split("=")[1] for word in data if ".val_" in word])
        loader = evaluation_loader(val, tiny_config(data, *SETTINGS))
        results = detect_dataset(fuse(network(data, weights)), loader, CPU, val.categories, progress=False)
        return sorted(result["score"] for result in results)[-20:]

    reported = sorted(one["score"] for one in json.loads((output / "evaluation/detections.json").read_text()))[-20:]
    assert reported == pytest.approx(scores(average(output)), rel=1e-3)
    assert reported != pytest.approx(scores(live(output, STEPS)), rel=1e-2)
