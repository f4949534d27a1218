"""Words of the command line as the settings of a run: a folder of data, short words, and what follows from them."""

import re
from pathlib import Path

import folder_layouts as layouts
import pytest
import yaml

from detector.config import (
    Config,
    ConfigError,
    TrainConfig,
    config_to_dict,
    flatten,
    load_config,
    save_config,
    short_words,
)
from detector.config.short_words import SHORT_WORDS
from detector.errors import UserError
from detector.training.configure import configure
from detector.training.schedule import in_iterations


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    schedule = {"iterations": 3000, "batch_size": 8, "milestones": [2000, 2600], "warmup_iterations": 250}
    path.write_text(yaml.safe_dump({"train": schedule | {"evaluate_every": 500, "save_every": 600}}))
    return path


def test_a_folder_takes_the_place_of_the_recipes_data(tmp_path: Path) -> None:
    word = layouts.roboflow_voc(tmp_path / "set")
    configured = configure("quickstart", [f"data={word}"])
    data = configured.config.data
    assert (data.format, data.generate, data.hold_out) == ("voc", None, 0)
    assert (data.train_annotations, data.test_images) == (f"{word}/train", f"{word}/test")
    assert "Roboflow export, Pascal VOC" in configured.notes[0]
    flat = configure("quickstart", [f"data={layouts.flat_yolo(tmp_path / 'flat')}", "data.hold_out=0.5"]).config.data
    assert (flat.hold_out, flat.val_annotations) == (0.5, None)


def test_what_is_written_repeats_the_run_without_the_word(tmp_path: Path) -> None:
    config = configure("quickstart", [f"data={layouts.plain_coco(tmp_path / 'a b #c: [x]')}", "epochs=2"]).config
    save_config(config, tmp_path / "config.yaml")
    assert configure(tmp_path / "config.yaml", []).config == config


def test_only_a_val_split_is_nothing_to_train_on(tmp_path: Path) -> None:
    layouts.coco(tmp_path / "val.json", [1])
    layouts.picture(tmp_path / "1.png", 1)
    with pytest.raises(UserError, match="only the val split"):
        configure("quickstart", [f"data={tmp_path}"])


def test_another_batch_sees_as_many_pictures(recipe: Path) -> None:
    configured = configure(recipe, ["train.batch_size=4"])
    train = configured.config.train
    assert (train.iterations, train.milestones, train.warmup_iterations) == (6000, (4000, 5200), 500)
    assert (train.evaluate_every, train.save_every) == (1000, 1200)
    assert configured.notes == (
        "train.batch_size 8 → 4: the run sees as many pictures as before (24,000), so train.iterations 3000 → 6000, "
        "train.milestones [2000, 2600] → [4000, 5200], train.warmup_iterations 250 → 500, train.evaluate_every 500 → "
        "1000, train.save_every 600 → 1200",
    )
    assert configure(recipe, ["batch=16"]).config.train.iterations == 1500
    assert configure(recipe, ["batch=7"]).config.train.iterations == 3429


def test_what_is_given_explicitly_stays(recipe: Path) -> None:
    train = configure(recipe, ["batch=4", "train.milestones=[100]", "train.evaluate_every=0"]).config.train
    assert (train.iterations, train.milestones, train.evaluate_every) == (6000, (100,), 0)
    train = configure(recipe, ["batch=4", "train.iterations=50"]).config.train
    assert (train.iterations, train.milestones) == (50, (2000, 2600))
    assert configure(recipe, ["batch=4"], is_resumed_config=True).config.train.iterations == 3000
    assert configure(recipe, ["batch=8"]) == configure(recipe, [])


def test_epochs_keep_the_shape_of_the_schedule(recipe: Path) -> None:
    train = configure(recipe, ["epochs=12", "batch=4"]).config.train
    fixed, lines = in_iterations(train, pictures=205)
    assert (fixed.iterations, fixed.epochs) == (615, None)
    assert (fixed.milestones, fixed.warmup_iterations, fixed.evaluate_every) == ((410, 533), 51, 102)
    assert lines[0] == "train.epochs=12: 12 × 205 pictures / 4 a step = train.iterations=615"
    explicit = configure(recipe, ["epochs=12", "batch=4", "train.milestones=[500]"]).config.train
    assert in_iterations(explicit, 205)[0].milestones == (500,)


def test_shares_of_the_run_and_epochs_without_a_recipe() -> None:
    train = TrainConfig(iterations=1000, milestones=(0.5, 900), warmup_iterations=0.01, evaluate_every=0.1)
    fixed, lines = in_iterations(train, 10)
    assert (fixed.milestones, fixed.warmup_iterations, fixed.evaluate_every) == ((500, 900), 10, 100)
    assert len(lines) == 3
    fixed, _ = in_iterations(TrainConfig(epochs=0.5, batch_size=2), 9)
    assert (fixed.iterations, fixed.milestones, fixed.warmup_iterations) == (3, (2, 3), 1)
    assert in_iterations(TrainConfig(), 5) == (TrainConfig(), [])


def test_short_words() -> None:
    config = load_config(None, ["lr=0.01", "batch=4", "epochs=3", "imgsz=320"])
    assert (config.train.learning_rate, config.train.batch_size, config.train.epochs) == (0.01, 4, 3)
    inputs = config.input
    assert (inputs.min_size_train, inputs.max_size_train, inputs.min_size_test) == ((320,), 320, 320)
    meant = {
        "lr0=1": "lr=",
        "iters=5": "train.iterations=",
        "device=cpu": "--device",
        "fp16=1": "train.precision=float",
    }
    meant |= {"epoch_s=3": "train.epochs", "bacth=4": "batch", "imgz=640": "imgsz", "iterations=5": "train.iterations"}
    meant |= {"fp16=1": "train.precision=float16"}
    meant |= {"freeze=10": "train.freeze", "train.precision=half": "float16", "train.batchsize=4": "train.batch_size"}
    for word, said in meant.items():
        with pytest.raises(ConfigError, match=rf"[Dd]id you mean {re.escape(said)}"):
            load_config(None, [word])
    with pytest.raises(ConfigError, match=r"model=R50.*--weights"):
        load_config(None, ["model=R50"])
    with pytest.raises(ConfigError, match=r"trackers=wandb.*a list, such as \[wandb\]"):
        load_config(None, ["train.trackers=wandb"])
    with pytest.raises(ConfigError, match=r"batch.*whole number|train\.batch_size"):
        load_config(None, ["batch=many"])


def test_words_of_other_frameworks_lead_to_settings_that_there_are() -> None:
    known = {*flatten(config_to_dict(Config())), *SHORT_WORDS, "data"}
    for word, meant in short_words._MEANT.items():
        named = re.findall(r"([\w.]+)=", meant)
        assert named or meant.startswith("--"), word
        assert set(named) <= known, word
