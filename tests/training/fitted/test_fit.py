"""A folder alone gives a run, and what was chosen is in its config."""

from pathlib import Path

import folder_layouts as layouts
import pytest
from tiny_run import SETTINGS

from detector.commands.main import main
from detector.config import ConfigError, load_config, save_config
from detector.errors import UserError
from detector.training.configure import configure


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DETECTOR_OFFLINE", "1")
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path / "cache"))


def test_a_folder_alone_is_explained_and_nothing_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    word = layouts.roboflow_voc(tmp_path / "set")
    assert main(["train", f"data={word}", "--explain", "--device", "cpu", "train.batch_size=4"]) == 0
    printed = capsys.readouterr().out
    for topic in ("network", "input", "anchors", "regions", "batch", "length", "evaluation", "augment", "sampling"):
        assert f"\n  {topic} " in printed
    assert "train.batch_size=4 (given)" in printed
    assert "output folder: output/set" in printed
    assert not (tmp_path / "output").exists()


def test_what_is_chosen_repeats_from_the_config_alone(tmp_path: Path) -> None:
    config = configure(None, [f"data={layouts.flat_voc(tmp_path / 'set')}", "train.seed=4"], device="cpu").config
    assert (config.train.seed, config.model.backbone.depth) == (4, 18)
    save_config(config, tmp_path / "config.yaml")
    again = configure(tmp_path / "config.yaml", [])
    assert again.config == config
    assert again.notes == ()
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("batch", [1, 4])
def test_a_batch_that_is_given_leaves_the_pictures_seen(tmp_path: Path, batch: int) -> None:
    configured = configure(None, [f"data={layouts.flat_voc(tmp_path / 'set')}", f"batch={batch}"], device="cpu")
    assert configured.config.train.iterations * batch == 2000
    assert not any("as many pictures as before" in note for note in configured.notes)


@pytest.mark.parametrize("word", ["batch=abc", "batch=0", "imgsz=big", "imgsz=[640, 480]", "model.kind=yolo"])
def test_words_that_cannot_be_are_said_before_anything_is_chosen(tmp_path: Path, word: str) -> None:
    with pytest.raises(ConfigError, match=r"batch_size|min_size|kind"):
        configure(None, [f"data={layouts.flat_voc(tmp_path / 'set')}", word], device="cpu")


def test_a_fitted_run_trains(tmp_path: Path) -> None:
    small = [word for word in SETTINGS if word.startswith(("model.", "input.", "data."))]
    words = [*small, "train.iterations=2", "train.evaluate_every=0", "train.tensorboard=false"]
    output = tmp_path / "run"
    data = layouts.roboflow_yolo(tmp_path / "set")
    assert main(["train", f"data={data}", "--device", "cpu", "--output", str(output), *words]) == 0
    written = load_config(output / "config.yaml")
    assert (written.train.ema_decay, written.train.warmup_iterations) == (0.995, 1)
    # Weights that are given bring their own network.
    weights = str(output / "model_final.safetensors")
    given = configure(None, {"data": data, "model.weights": weights}, device="cpu").config
    assert given.model.backbone == written.model.backbone
    assert given.model.rpn == written.model.rpn
    assert (given.train.learning_rate, given.train.reference_batch_size) == (0.02, 16)


def test_several_processes_need_one_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="add --config"):
        configure(None, [f"data={layouts.flat_voc(tmp_path / 'set')}"], device="cpu")
