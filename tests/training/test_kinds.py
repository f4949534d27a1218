"""FPN and DC5 train, resume to the bit, start from other weights, and every command takes them."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import assert_same_bits, tiny_config, write_dataset

from detector.categories import CategoryMap
from detector.commands import convert_weights, evaluate, predict
from detector.commands.main import main
from detector.config import Config, load_config
from detector.errors import UserError
from detector.training import engine
from detector.training.engine import Outcome, train
from detector.training.run.parts import Run
from detector.weights.files import WeightsFile, read_weights, save_weights
from detector.weights.state_layout import is_of_resnet

FPN = [
    "model.kind=fpn",
    "model.fpn.channels=16",
    "model.roi.fc_channels=32",
    "model.rpn.anchor_sizes=[12, 24, 48, 96, 128]",
    "train.iterations=4",
    "train.milestones=[3]",
    "train.evaluate_every=0",
    "train.save_every=2",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_dataset(tmp_path_factory.mktemp("data"), train=6, val=2)


@pytest.fixture(scope="module")
def trained(data: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an FPN's run."""
    folder = tmp_path_factory.mktemp("fpn") / "run"
    assert train(tiny_config(data, *FPN), folder, device="cpu") == Outcome(4, 0)
    return folder


def test_an_interrupted_run_of_an_fpn_ends_with_the_same_bits(
    data: list[str], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = engine.report_steps

    def report(run: Run, values: dict[str, Any]) -> None:
        real(run, values)
        if values["iteration"] == 3:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "report_steps", report)
        outcome = train(tiny_config(data, *FPN), tmp_path / "run", resume=True, device="cpu")
    assert outcome == Outcome(3, signal.SIGTERM)
    assert train(tiny_config(data, *FPN), tmp_path / "run", resume=True, device="cpu") == Outcome(4, 0)
    assert_same_bits(trained / "model_final.safetensors", tmp_path / "run/model_final.safetensors")


def test_every_command_takes_an_fpn(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = str(trained / "model_final.safetensors")
    picture = str(next((Path(read_config(trained).data.val_images or "")).glob("*.png")))
    for command, *words in (
        (predict, picture, "--weights", weights, "--output", str(tmp_path / "found"), "--device", "cpu"),
        (evaluate, "--weights", weights, "--device", "cpu"),
        (convert_weights, weights, str(tmp_path / "ours.safetensors")),
    ):
        name = command.__name__.rpartition(".")[2].replace("_", "-")
        assert main([name, *words]) == 0
    assert "ResNet-18-FPN" in capsys.readouterr().out
    assert_same_bits(trained / "model_final.safetensors", tmp_path / "ours.safetensors")


def read_config(folder: Path) -> Config:
    return load_config(folder / "config.yaml")


def test_fine_tuning_keeps_what_is_known_and_makes_the_head_for_the_classes(
    data: list[str], trained: Path, tmp_path: Path
) -> None:
    weights = trained / "model_final.safetensors"
    settings = [*FPN, "train.iterations=1", "train.learning_rate=1e-12", f"model.weights={weights}"]
    train(tiny_config(data, *settings), tmp_path / "run", device="cpu")
    first, second = (read_weights(p) for p in (weights, tmp_path / "run/model_final.safetensors"))
    assert all(torch.allclose(first.state_dict[k], second.state_dict[k], atol=1e-9) for k in first.state_dict)


@pytest.mark.parametrize("kind", ["c4", pytest.param("dc5", marks=pytest.mark.slow)])
def test_a_resnet_of_one_kind_starts_another(data: list[str], trained: Path, tmp_path: Path, kind: str) -> None:
    """A backbone's file need not be of the same kind of model; a detector's must be."""
    weights = trained / "model_final.safetensors"
    source = read_weights(weights)
    other = [w for w in FPN if "anchor_sizes" not in w and "fpn.channels" not in w]
    settings = [*other, f"model.kind={kind}", "train.iterations=1", "train.learning_rate=1e-12"]
    backbone = backbone_of(source, tmp_path)
    train(tiny_config(data, *settings, f"model.backbone.weights={backbone}"), tmp_path / "run", device="cpu")
    state = read_weights(tmp_path / "run/model_final.safetensors").state_dict
    last = "roi_head.conv5_x" if kind == "c4" else "backbone.conv5_x"
    for ours, theirs in (
        ("backbone.conv1", "backbone.body.conv1"),
        (f"{last}.1.conv2", "backbone.body.conv5_x.1.conv2"),
    ):
        assert torch.allclose(state[f"{ours}.weight"], source.state_dict[f"{theirs}.weight"], atol=1e-9)
    config = tiny_config(data, *settings, f"model.weights={weights}")
    with pytest.raises(UserError, match=r"set model\.kind, depth, width and norm to those of the weights"):
        train(config, tmp_path / "no", device="cpu")


def backbone_of(source: WeightsFile, folder: Path) -> Path:
    state = {name: tensor for name, tensor in source.state_dict.items() if is_of_resnet(name)}
    path = folder / "backbone.safetensors"
    save_weights(path, state, source.config, CategoryMap(()), {})
    return path
