"""Exactly the parameters whose names match are not trained, and stay as they are to the bit."""

from pathlib import Path
from typing import Any

import folder_layouts as layouts
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_models import tiny_config, tiny_model
from tiny_run import SETTINGS
from torch import nn

import detector
from detector.config import load_config
from detector.errors import UserError
from detector.model.build import build_model
from detector.training.freezing import describe_freezing, freeze, keep_statistics

NETWORK: dict[str, Any] = {key: yaml.safe_load(value) for key, _, value in (word.partition("=") for word in SETTINGS)}


def frozen_names(*patterns: str) -> set[str]:
    model = tiny_model(tiny_config(backbone={"norm": "batch", "freeze_stages": 0}))
    freeze(model, patterns)
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def test_patterns_are_names_parts_and_wildcards() -> None:
    every = {name for name, _ in tiny_model(tiny_config(backbone={"norm": "batch"})).named_parameters()}
    assert frozen_names() == set()
    assert frozen_names("backbone") == {name for name in every if name.startswith("backbone.")}
    assert frozen_names("rpn.conv.bias") == {"rpn.conv.bias"}
    assert frozen_names("rpn.conv") == {"rpn.conv.bias", "rpn.conv.weight"}  # and not rpn.convs or the like
    assert frozen_names("*.norm1") == {name for name in every if ".norm1." in name}
    both = {name for name in every if name.startswith(("backbone.conv2_x.", "backbone.conv4_x."))}
    assert frozen_names("backbone.conv[24]_x") == both == frozen_names("backbone.conv2_x", "backbone.conv4_x.*")


def test_mistaken_patterns_are_refused() -> None:
    with pytest.raises(UserError, match=r"'backbone\.conv9_x' matches no parameter; did you mean backbone\.conv"):
        frozen_names("rpn", "backbone.conv9_x")
    with pytest.raises(UserError, match="nothing to train"):
        frozen_names("*")


def test_the_table_counts_what_each_pattern_freezes() -> None:
    model = tiny_model(tiny_config())
    table = describe_freezing(model, freeze(model, ["rpn.objectness", "rpn"]))
    channels = model.rpn.objectness.weight.shape
    assert f"{channels[0] * channels[1] + channels[0]:,}  rpn.objectness.weight …" in table


@pytest.mark.parametrize(
    ("patterns", "norm"),
    [
        (["backbone"], "group"),
        (["rpn", "roi_head.conv5_x.0"], "group"),
        (["backbone.conv3_x", "*.bias", "roi_head.bbox_pred"], "batch"),
    ],
)
def test_ten_steps_change_exactly_the_others(tmp_path: Path, patterns: list[str], norm: str) -> None:
    schedule: dict[str, Any] = {"train.iterations": 10, "train.evaluate_every": 0, "train.log_every": 10}
    schedule |= {"train.batch_size": 2, "train.weight_decay": 0.01, "model.backbone.norm": norm, "train.milestones": []}
    settings = NETWORK | schedule | {"train.freeze": patterns, "train.warmup_iterations": 0, "device": "cpu"}
    run = detector.train(layouts.roboflow_voc(tmp_path / "set"), output=tmp_path / "run", **settings)
    after = load_file(run.final)
    config = load_config(tmp_path / "run/config.yaml")
    assert list(config.train.freeze) == patterns
    torch.manual_seed(config.train.seed)
    model = build_model(config)
    before = {name: value.detach().clone() for name, value in model.state_dict().items()}
    matched = freeze(model, patterns)
    frozen = {name for names in matched.values() for name in names}
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == frozen
    for name, _ in model.named_parameters():
        assert after[name].equal(before[name]) == (name in frozen), name
    log = (tmp_path / "run/log.txt").read_text()
    assert "tensors and numbers that are not trained" in log
    assert all(f"  {pattern} " in log for pattern in patterns)


def test_statistics_of_frozen_norms_stay() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2)).train()
    names = [name for found in freeze(model, ["0"]).values() for name in found]
    keep_statistics(model, model, names)
    model(torch.randn(4, 2, 3, 3))
    assert model[0].num_batches_tracked == 0
    assert model[1].num_batches_tracked == 1
