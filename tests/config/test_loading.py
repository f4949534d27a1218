"""Reading, overriding and writing configs, and what is said about each kind of mistake."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from detector.config import (
    Config,
    ConfigError,
    ModelConfig,
    config_from_dict,
    config_to_dict,
    differences,
    load_config,
    override_config,
    project_root,
    save_config,
)

WriteConfig = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteConfig:
    """Writes a config into a project of its own and returns its path."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "configs").mkdir()

    def write_config(text: str, name: str = "own.yaml") -> Path:
        path = tmp_path / "configs" / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_config


def test_no_file_gives_the_defaults() -> None:
    assert load_config(None) == Config()


def test_an_empty_file_gives_the_defaults(write: WriteConfig) -> None:
    assert load_config(write("# nothing yet\n")) == Config()


def test_a_file_changes_what_it_names_and_nothing_else(write: WriteConfig) -> None:
    config = load_config(write("model: {num_classes: 3, rpn: {anchor_sizes: [16, 32]}}\ntrain: {seed: 7}\n"))
    assert differences(Config(), config) == [
        "model.num_classes: None → 3",
        "model.rpn.anchor_sizes: [32.0, 64.0, 128.0, 256.0, 512.0] → [16.0, 32.0]",
        "train.seed: 0 → 7",
    ]
    assert isinstance(config.model.rpn.anchor_sizes, tuple)


def test_a_config_cannot_be_changed() -> None:
    config = Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.train.seed = 1  # type: ignore[misc]


# Overrides


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("train.learning_rate=1e-4", 1e-4),  # YAML 1.1 reads this one as text
        ("train.learning_rate=0.01", 0.01),
        ("train.learning_rate=1", 1.0),
        ("train.iterations=90000", 90000),
        ("train.iterations=2e4", 20000),
        ("train.milestones=[6e4, 80000]", (60000, 80000)),
        ("train.milestones=[]", ()),
        ("train.ema_decay=null", None),
        ("train.ema_decay=", None),
        ("train.ema_decay=0.999", 0.999),
        ("data.aspect_grouping=false", False),
        ("data.aspect_grouping=no", False),
        ("model.backbone.norm=group", "group"),
        ("model.weights=R101-C4-3x", "R101-C4-3x"),
        ("model.rpn.delta_weights=[1, 2, 3, 4]", (1.0, 2.0, 3.0, 4.0)),
    ],
)
def test_overrides_are_converted_by_the_type_of_the_setting(word: str, expected: object) -> None:
    value: Any = load_config(None, [word])
    for part in word.partition("=")[0].split("."):
        value = getattr(value, part)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize("text", ["no", "2017", "1e3", "2017-01-01"])
def test_what_yaml_reads_as_something_else_stays_text_where_text_is_wanted(text: str) -> None:
    assert load_config(None, [f"data.train_images={text}"]).data.train_images == str(Path.cwd() / text)


def test_overrides_win_over_the_file_and_the_last_one_over_the_others(write: WriteConfig) -> None:
    path = write("train: {seed: 1, batch_size: 4}\n")
    config = load_config(path, ["train.seed=2", "train.iterations=10", "train.seed=3"])
    assert (config.train.seed, config.train.batch_size, config.train.iterations) == (3, 4, 10)


def test_overrides_are_judged_together_with_the_file(write: WriteConfig) -> None:
    path = write("model: {rpn: {positive_iou: 0.9}}\n")
    assert load_config(path, ["model.rpn.negative_iou=0.8"]).model.rpn.negative_iou == 0.8


def test_class_names_stay_as_they_are_written(tmp_path: Path) -> None:
    config = load_config(None, ["train.class_weights={yes: 2, 010: 3, 7: 1.5}"])
    assert config.train.class_weights == {"yes": 2, "010": 3, "7": 1.5}
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    assert differences(load_config(None, {"train.class_weights": {7: 1.5}}), config) == [
        "train.class_weights.yes: None → 2",
        "train.class_weights.010: None → 3",
    ]
    assert len(differences(config, load_config(None))) == len(differences(load_config(None), config)) == 3


def test_a_config_that_is_there_already_takes_overrides_too() -> None:
    config = config_from_dict({"model": {"num_classes": 3, "rpn": {"positive_iou": 0.9}}})
    changed_config = override_config(config, ["model.rpn.negative_iou=0.8", "input.min_size_test=600"])
    assert differences(config, changed_config) == [
        "model.rpn.negative_iou: 0.3 → 0.8",
        "input.min_size_test: 800 → 600",
    ]
    assert override_config(config, []) == config
    with pytest.raises(
        ConfigError, match=r"command line: unknown setting input\.min_size\. Did you mean input\.min_size_"
    ):
        override_config(config, ["input.min_size=600"])


# Inheritance


def test_base_is_read_first_and_overlaid(write: WriteConfig) -> None:
    write("model: {backbone: {depth: 50, width: 8}}\ntrain: {seed: 1}\n", "base.yaml")
    config = load_config(write("base: base.yaml\nmodel: {backbone: {depth: 18}}\n"))
    assert (config.model.backbone.depth, config.model.backbone.width, config.train.seed) == (18, 8, 1)


def test_base_is_one_level_deep(write: WriteConfig) -> None:
    write("train: {seed: 1}\n", "grandparent.yaml")
    write("base: grandparent.yaml\n", "parent.yaml")
    path = write("base: parent.yaml\n")
    with pytest.raises(
        ConfigError, match=r"parent\.yaml is the base of .*own\.yaml and has a base itself; .*one level"
    ):
        load_config(path)


# Mistakes: (file text, what is said)
MISTAKES = {
    "unknown, near another": (
        "model: {rpn: {pre_nms_topn_test: 6000}}",
        "own.yaml: unknown setting model.rpn.pre_nms_topn_test. Did you mean model.rpn.pre_nms_top_n_test?",
    ),
    "unknown, near nothing": ("zzz: 1", "own.yaml: unknown setting zzz. There are: model, input, data, train."),
    "unknown, of another section": ("model: {depth: 50}", "model.depth. Did you mean model.backbone.depth?"),
    "unknown, nearly of another section": ("lerning_rate: 1", "lerning_rate. Did you mean train.learning_rate?"),
    "twice": (
        "train: {seed: 1}\ninput: {}\ntrain: {seed: 2}",
        "own.yaml: train is given twice, in lines 1 and 3",
    ),
    "octal": ("train: {iterations: 010}", "train.iterations=010 (own.yaml): expected a whole number."),
    "minutes": ("train: {iterations: 1:30}", "train.iterations=1:30 (own.yaml): expected a whole number."),
    "call": ("train: !!python/object/apply:os.system [ls]", "own.yaml: line 1: refused, it wants Python's os.system"),
    "unknown, not even text": ("model: {1: 2}", "own.yaml: unknown setting model.1. There are: num_classes, "),
    "no number": ("train: {learning_rate: fast}", "train.learning_rate=fast (own.yaml): expected a number."),
    "not a number": ("train: {learning_rate: .nan}", "train.learning_rate=nan (own.yaml): expected a number."),
    "infinite": ("train: {learning_rate: 1e999}", "train.learning_rate=1e999 (own.yaml): expected a number."),
    "bool for a number": ("train: {learning_rate: true}", "train.learning_rate=True (own.yaml): expected a number."),
    "no whole number": ("train: {iterations: 1.5}", "train.iterations=1.5 (own.yaml): expected a whole number."),
    "bool for a whole number": ("train: {iterations: yes}", "train.iterations=True (own.yaml): expected a whole"),
    "text for a whole number": ("train: {iterations: many}", "train.iterations=many (own.yaml): expected a whole"),
    "no truth value": ("data: {aspect_grouping: 1}", "data.aspect_grouping=1 (own.yaml): expected true or false."),
    "no text": ("data: {train_images: 2017}", "data.train_images=2017 (own.yaml): expected text; put it in quotes."),
    "no choice": ("model: {backbone: {norm: 5}}", "model.backbone.norm=5 (own.yaml): expected one of frozen_batch, "),
    "no choice, near one": (
        "model: {backbone: {norm: frozen_bach}}",
        "expected one of frozen_batch, batch, group; did you mean frozen_batch?",
    ),
    "no list": ("train: {milestones: 5}", "train.milestones=5 (own.yaml): expected a list, such as [5]."),
    "item of a list": ("train: {milestones: [1, x]}", "train.milestones[1]=x (own.yaml): expected a number."),
    "a list without end": (
        "train: {milestones: [" + "1, " * 2000 + "]}",
        "train.milestones (own.yaml) has 2000 values",
    ),
    "length of a list": (
        "input: {pixel_mean: [1, 2]}",
        "input.pixel_mean=[1, 2] (own.yaml): expected a list of 3 values.",
    ),
    "null where nothing may be missing": (
        "train: {seed: null}",
        "train.seed=None (own.yaml): expected a whole number.",
    ),
    "value for a group": ("model: 3", "own.yaml: model must be a mapping of settings."),
    "group for a value": ("train: {seed: {a: 1}}", "train.seed={'a': 1} (own.yaml): expected a whole number."),
    "range": ("train: {iterations: 0}", "own.yaml: train.iterations=0: choose 1 to 1000000000."),
    "list for the config": ("- 1", "own.yaml: a config is a mapping of settings, not a list."),
    "no YAML": ("model: [", "own.yaml: not valid YAML ("),
    "base that is no name": ("base: [1]", "own.yaml: base must be a file name."),
    "base that is not there": ("base: no.yaml", "no.yaml: cannot read the config (No such file or directory)"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_file_is_one_sentence_with_file_and_key(write: WriteConfig, mistake: str) -> None:
    text, message = MISTAKES[mistake]
    path = write(text + "\n")
    with pytest.raises(ConfigError) as error:
        load_config(path)
    said = str(error.value).replace(f"{path.parent}/", "")
    assert message in said
    assert "\n" not in said
    assert said.endswith((".", "?", ".)"))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("train.seed", "'train.seed' (command line): overrides are written key.path=value."),
        ("=3", "'=3' (command line): overrides are written key.path=value."),
        ("train.sead=3", "command line: unknown setting train.sead. Did you mean train.seed?"),
        ("train.learning_rate=fast", "train.learning_rate=fast (command line): expected a number."),
        ("train.seed.x=3", "train.seed={'x': 3} (command line): expected a whole number."),
        ("input=3", "command line: input must be a mapping of settings."),
        ("model.roi.pooling=no", "model.roi.pooling=no (command line): expected one of align, pool."),
        ("train.learning_rate=-1", "command line: train.learning_rate=-1.0: choose 1e-12 to 10000."),
        ("train.iterations=010", "train.iterations=010 (command line): expected a whole number."),
        ("train.milestones=[1", "train.milestones=[1 (command line): expected a list."),
    ],
)
def test_a_mistake_on_the_command_line_is_blamed_on_it(write: WriteConfig, word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(write("train: {seed: 1}\n"), [word])


def test_a_missing_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"absent\.yaml: cannot read the config \(no such file, and no recipe of that name\)"
    ):
        load_config(tmp_path / "absent.yaml")
    (tmp_path / "picture.yaml").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ConfigError, match=r"picture\.yaml: not a text file; a config is YAML in UTF-8"):
        load_config(tmp_path / "picture.yaml")


# Writing and reading back


def changed(value: Any) -> Any:
    """A setting of the same kind but another value, for every kind there is."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value / 2 if isinstance(value, float) else value + 1
    if isinstance(value, list):
        return [changed(v) for v in value]
    return value


def changed_everywhere(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: changed_everywhere(v) if isinstance(v, Mapping) else changed(v) for k, v in values.items()}


def test_saving_and_loading_is_the_identity(write: WriteConfig, tmp_path: Path) -> None:
    values = changed_everywhere(config_to_dict(Config()))
    values["model"]["num_classes"] = 7
    values["model"]["backbone"]["depth"] = 34
    values["model"]["rpn"]["negative_iou"] = 1e-7
    values["model"]["weights"] = "R101-C4-3x"
    values["data"]["train_images"] = str(tmp_path / "with space: and # signs" / "ä")
    values["train"]["weight_decay"] = 1e-05
    config = config_from_dict(values)
    assert len(differences(Config(), config)) > 60, "nearly every setting differs from its default"
    path = write("")
    save_config(config, path)
    assert load_config(path) == config


def test_to_dict_and_back_through_plain_containers() -> None:
    config = Config(model=ModelConfig(num_classes=3))
    values = config_to_dict(config)
    assert yaml.safe_load(yaml.safe_dump(values)) == values, "nothing but plain containers"
    assert config_from_dict(values) == config


def test_from_dict_names_its_source() -> None:
    with pytest.raises(ConfigError, match=r"model_final\.safetensors: unknown setting modle\. Did you mean model\?"):
        config_from_dict({"modle": {}}, source="model_final.safetensors")


def test_differences_of_equal_configs() -> None:
    assert differences(Config(), Config()) == []


# Paths


def test_paths_of_a_file_start_at_its_project_and_those_of_the_command_line_here(
    write: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    path = write(
        "data: {train_images: data/train, val_images: /absolute/val}\n"
        "model: {weights: R101-C4-3x, backbone: {weights: weights/r50.pth}}\n"
    )
    config = load_config(path, ["data.val_annotations=val.json", "data.train_annotations=~/train.json"])
    assert config.data.train_images == str(tmp_path / "data/train")
    assert config.data.val_images == "/absolute/val"
    assert config.data.val_annotations == str(elsewhere / "val.json")
    assert config.data.train_annotations == str(Path.home() / "train.json")
    assert config.model.weights == "R101-C4-3x", "a published name is no path"
    assert config.model.backbone.weights == str(tmp_path / "weights/r50.pth")


def test_the_project_root_is_the_nearest_folder_with_pyproject(tmp_path: Path) -> None:
    inner = tmp_path / "outer" / "project" / "configs" / "deep"
    inner.mkdir(parents=True)
    assert project_root(inner / "x.yaml") == inner, "without a project, the folder of the config"
    (tmp_path / "outer" / "pyproject.toml").touch()
    (tmp_path / "outer" / "project" / "pyproject.toml").touch()
    assert project_root(inner / "x.yaml") == tmp_path / "outer" / "project"


# The recipes of the project

RECIPES = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_survives_saving(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config


def test_a_config_that_is_there_can_be_overridden() -> None:
    config = override_config(load_config(None, ["train.seed=3"]), ["model.detection.score_threshold=1e-2"])
    assert (config.train.seed, config.model.detection.score_threshold) == (3, 0.01)
    assert override_config(config, []) is config
    with pytest.raises(ConfigError, match=r"command line: unknown setting train.sed. Did you mean train.seed?"):
        override_config(config, ["train.sed=4"])


def test_transforms_of_albumentations_are_carried_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "data:\n  augment:\n    transforms:\n      - ToGray\n      - GaussianBlur: {sigma_limit: [0.5, 2], p: 0.3}\n"
    )
    expected = ("ToGray", {"GaussianBlur": {"sigma_limit": [0.5, 2], "p": 0.3}})
    config = load_config(path)
    assert config.data.augment.transforms == expected
    save_config(config, tmp_path / "again.yaml")
    assert load_config(tmp_path / "again.yaml") == config
    assert load_config(None, ["data.augment.transforms=[ToGray]"]).data.augment.transforms == ("ToGray",)
