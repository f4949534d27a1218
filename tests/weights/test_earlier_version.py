"""What version 0.1.0 wrote (`tests/earlier_version`, made by it) loads: its config, weights, and a checkpoint."""

import shutil
from pathlib import Path

import detector
from detector.categories import Category
from detector.config import load_config
from detector.training.state.checkpoint import load_checkpoint
from detector.weights.files import read_weights
from detector.weights.run_config import read_run_config

RUN = Path(__file__).resolve().parents[1] / "earlier_version"


def test_the_weights_file_loads_and_predicts() -> None:
    weights = read_weights(RUN / "model_final.safetensors")
    assert weights.categories.categories == (Category(3, "red"), Category(7, "blue"))
    assert weights.provenance["metrics"] == {"AP": 0.25}
    assert (weights.config.model.backbone.width, weights.config.input.min_size_test) == (1, 96)
    assert weights.config.model.backbone.weights is None
    assert weights.config.data.val_annotations is None
    model = detector.load(RUN / "model_final.safetensors", device="cpu")
    assert model.config.model.num_classes == 2


def test_the_config_of_the_run_loads() -> None:
    config = load_config(RUN / "config.yaml")
    assert config.data.val_annotations == "/home/ann/shapes/val.json"
    assert (config.train.ema_decay, config.train.seed, config.model.rpn.anchor_sizes) == (0.5, 7, (16.0, 32.0))
    assert read_run_config(RUN / "model_final.safetensors") == (RUN / "config.yaml", config)


def test_the_checkpoint_loads_with_every_setting(tmp_path: Path) -> None:
    shutil.copytree(RUN / "checkpoints", tmp_path / "checkpoints")
    state = load_checkpoint(tmp_path / "checkpoints" / "iteration_0000004")
    assert state.config == load_config(RUN / "config.yaml")
    assert (state.progress.iteration, state.progress.best_ap) == (4, 0.25)
    assert state.model.keys() == read_weights(RUN / "model_final.safetensors").state_dict.keys()
    assert all((tensor == 0.5).all() for tensor in state.momentum.values())
    assert len(state.momentum) == 2
