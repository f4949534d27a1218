"""Weights of networks with residual shrinkage: they go round, and those without thresholds are refused for them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import tiny_config, tiny_model

import detector
from detector.categories import CategoryMap
from detector.config import Config
from detector.errors import UserError
from detector.model.build import build_model
from detector.weights.files import save_weights
from detector.weights.initialise import initialise
from detector.weights.lineages.detectron2_export import settings_from_config
from detector.weights.lineages.torchvision_resnet import to_torchvision_resnet

ANIMALS = CategoryMap.from_names(["cat", "dog", "cow"])
SHRINKING = tiny_config(backbone={"norm": "batch", "shrinkage": "channel"})


def starting_from(config: Config, **changes: Any) -> Config:
    backbone = {"weights": changes.pop("backbone")} if "backbone" in changes else {}
    model = replace(config.model, backbone=replace(config.model.backbone, **backbone), **changes)
    return replace(config, model=model)


def saved(path: Path, config: Config) -> str:
    save_weights(path, tiny_model(config).state_dict(), config, ANIMALS, {})
    return str(path)


def test_thresholds_and_their_setting_go_round(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", SHRINKING)
    predictor = detector.load(path, device="cpu")
    assert predictor.config.model.backbone.shrinkage == "channel"
    expected = tiny_model(SHRINKING).state_dict()
    assert any(".shrink." in name for name in expected)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in predictor.model.state_dict().items())
    for start in ({"weights": path}, {"backbone": path}):
        config = starting_from(SHRINKING, **start)
        model = build_model(config)
        report = initialise(model, config, ANIMALS)
        assert report is not None
        assert any(".shrink." in name for name in report.loaded)


@pytest.mark.parametrize(
    "start", [{"weights": "R50-C4-3x"}, {"backbone": "R-50"}, {"backbone": "file"}, {"weights": "file"}]
)
def test_weights_without_thresholds_are_refused_before_they_are_fetched(start: dict[str, str], tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors", tiny_config(backbone={"norm": "batch"}))
    config = starting_from(SHRINKING, **{key: path if value == "file" else value for key, value in start.items()})
    with pytest.raises(UserError, match=r"without thresholds; leave out model.backbone.shrinkage=channel"):
        initialise(build_model(config), config, ANIMALS)


def test_other_frameworks_have_no_place_for_them() -> None:
    with pytest.raises(UserError, match="no place for its thresholds"):
        to_torchvision_resnet(tiny_model(SHRINKING).state_dict())
    deep = tiny_config(backbone={"depth": 50, "norm": "batch", "shrinkage": "shared"})
    with pytest.raises(UserError, match=r"no counterpart for model.backbone.shrinkage=shared"):
        settings_from_config(deep)
