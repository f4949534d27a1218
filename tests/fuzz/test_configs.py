"""Broken configs, ours and detectron2's, and broken words on the command line: taken, or refused in one sentence."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from fuzzing import RAW, mutate_bytes, mutate_tree, seeds, survive

from detector.config import Config, config_from_dict, config_to_dict, load_config, override_config, save_config
from detector.weights.lineages.detectron2_settings import read_settings


def to_yaml(value: Any) -> bytes:
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=False)
    for mark, raw in RAW.items():
        text = text.replace(mark, raw)
    return text.encode()


def load_and_save(path: Path) -> None:
    """As a training run does."""
    config = load_config(path)
    again = path.with_name("again.yaml")
    save_config(config, again)
    assert load_config(again) == config


@pytest.mark.parametrize("numbers", seeds(5, 150))
def test_values(tmp_path: Path, numbers: range) -> None:
    path = tmp_path / "c.yaml"
    for seed in numbers:
        path.write_bytes(to_yaml(mutate_tree(config_to_dict(Config()), Random(seed))))
        survive(lambda: load_and_save(path), "c.yaml", seed)


@pytest.mark.parametrize("numbers", seeds(10, 100))
def test_bytes(tmp_path: Path, project_root: Path, numbers: range) -> None:
    path, base = tmp_path / "c.yaml", tmp_path / "base.yaml"
    source = project_root / "configs/quickstart.yaml"
    base.write_text("train: {iterations: 10}\n")
    for seed in numbers:
        random = Random(seed)
        path.write_bytes(mutate_bytes(source.read_bytes() + b"base: base.yaml\n", random))
        survive(lambda: load_and_save(path), ".yaml", seed)


@pytest.mark.parametrize("numbers", seeds(10, 100))
def test_what_weights_files_hold(numbers: range) -> None:
    for seed in numbers:
        values = mutate_tree(config_to_dict(Config()), Random(seed))
        survive(lambda values=values: config_from_dict(values, "w.safetensors"), "w.safetensors", seed)


WORDS = ["train.learning_rate=0.01", "model.rpn.anchor_sizes=[32,64]", "data.format=voc", "model.weights=a/b.pth"]


@pytest.mark.parametrize("numbers", seeds(10, 100))
def test_words(numbers: range) -> None:
    for seed in numbers:
        random = Random(seed)
        word = mutate_bytes(random.choice(WORDS).encode(), random).decode("utf-8", "surrogateescape")
        survive(lambda word=word: override_config(Config(), [word]), "command line", seed)


@pytest.mark.parametrize("numbers", seeds(5, 60))
def test_detectron2(tmp_path: Path, references: Path, numbers: range) -> None:
    good = (references / "r50_w6_c6/config.yaml").read_bytes()
    path = tmp_path / "config.yaml"
    for seed in numbers:
        random = Random(seed)
        content = mutate_bytes(good, random) if seed % 2 else to_yaml(mutate_tree(yaml.safe_load(good), random))
        path.write_bytes(content)
        survive(lambda: read_settings(path), "config.yaml", seed)


LISTS = "\n".join(f"    - &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9))
HOSTILE = {
    "laughs": f"model:\n  backbone:\n    weights:\n    - &a0 [{', '.join('x' * 10)}]\n{LISTS}\n",
    "laughing_key": f"model:\n  nothing:\n    - &a0 [{', '.join('x' * 10)}]\n{LISTS}\n",
    "circle": "model: &a\n  rpn: *a\n",
    "circular_list": "input:\n  pixel_mean: &a [1, 2, *a]\n",
    "circular_base": "base: c.yaml\n",
    "merge": "a: &a {<<: *a}\n",
    "deep": "model: " + "{a: " * 2000,
    "deep_list": "- " * 5000,
    "digits": "train: {iterations: 0x" + "f" * 10_000 + "}\n",
    "python": "model: !!python/object/apply:os.system ['touch canary']\n",
    "keys": "? [1, 2]\n: 3\n",
    "dates": "data: {format: 2017-01-01}\n",
    "sixty": "train: {iterations: 1:30:00}\n",
    "null": "model:\n",
    "control": 'model: {weights: "a\\0b/c.pth"}\n',
    "long": "x" * 100_000 + ": 1\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "c.yaml"
    path.write_text(HOSTILE[name])
    survive(lambda: load_and_save(path), "c.yaml", 0)
    survive(lambda: read_settings(path), "c.yaml", 0)
    assert not (tmp_path / "canary").exists()
