from pathlib import Path

import pytest

from detector.config import ConfigError
from detector.training.run.output import CHECKPOINTS, CONFIG_FILE
from detector.training.state.checkpoint import MODEL
from detector.training.state.checkpoint_names import checkpoint_name
from detector.weights.run_config import find_run_config, read_run_config


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / CHECKPOINTS / checkpoint_name(5)).mkdir(parents=True)
    (tmp_path / CONFIG_FILE).write_text("data: {val_annotations: /data/val.json}\n")
    return tmp_path


@pytest.mark.parametrize("name", ["model_best.safetensors", f"{CHECKPOINTS}/{checkpoint_name(5)}/{MODEL}"])
def test_weights_in_a_runs_folder_know_their_run(run: Path, name: str) -> None:
    found = read_run_config(run / name)
    assert found is not None
    assert found[0] == run / CONFIG_FILE
    assert found[1].data.val_annotations == "/data/val.json"


def test_weights_elsewhere_do_not(run: Path) -> None:
    (run / "copies").mkdir()
    for name in ("copies/model_best.safetensors", "R101-C4-3x/x.pkl", f"{CHECKPOINTS}/model.safetensors"):
        assert find_run_config(run / name) is None
        assert read_run_config(run / name) is None


def test_a_config_that_cannot_be_read_is_named(run: Path) -> None:
    (run / CONFIG_FILE).write_text("model: [")
    with pytest.raises(ConfigError, match=r"config\.yaml: not valid YAML"):
        read_run_config(run / "model_best.safetensors")
