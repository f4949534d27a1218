"""A ResNet alone under detectron2's names, as its converter writes torchvision's networks."""

import logging
from pathlib import Path

import pytest
import torch
import torchvision
from hostile import torch_file
from tiny_models import tiny_config

from detector.config import override_config
from detector.model.build import build_model
from detector.weights.backbone_weights import resolve_backbone
from detector.weights.lineages.detectron2_resnet import is_detectron2_resnet, with_torchvision_names
from detector.weights.lineages.torchvision_resnet import to_torchvision_resnet
from detector.weights.resolve import resolve_weights


def detectron2_name(name: str) -> str:
    """The rule of detectron2's converter."""
    if not name.startswith("layer"):
        name = f"stem.{name}"
    for stage in range(1, 5):
        name = name.replace(f"layer{stage}.", f"res{stage + 1}.")
    for number in range(1, 4):
        name = name.replace(f"bn{number}.", f"conv{number}.norm.")
    return name.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")


def test_names_are_torchvisions_again() -> None:
    with torch.device("meta"):
        state = torchvision.models.resnet50().state_dict()
    theirs = {detectron2_name(name): tensor for name, tensor in state.items()}
    assert {"stem.conv1.norm.bias", "res2.0.shortcut.norm.weight", "res5.2.conv3.weight", "stem.fc.bias"} <= set(theirs)
    assert is_detectron2_resnet(theirs)
    back = with_torchvision_names(theirs)
    assert list(back) == list(state)
    assert all(back[name] is state[name] for name in state)
    assert not is_detectron2_resnet(state)
    assert list(with_torchvision_names(state)) == list(state)


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.model."])
def test_a_file_fills_a_backbone(tmp_path: Path, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    ours = build_model(tiny_config()).state_dict()
    resnet = to_torchvision_resnet(ours)
    path = tmp_path / "r18.pkl"
    path.write_bytes(torch_file({prefix + detectron2_name(name): tensor for name, tensor in resnet.items()}))
    config = override_config(tiny_config(), [f"model.backbone.weights={path}"])
    with caplog.at_level(logging.INFO):
        state = resolve_backbone(config).state
    assert all(torch.equal(tensor, ours[name]) for name, tensor in state.items())
    assert "its channels are taken to be rgb (model.backbone.weights_channels)" in caplog.text
    turned = resolve_backbone(override_config(config, ["model.backbone.weights_channels=bgr"])).state
    assert torch.equal(turned["backbone.conv1.weight"], ours["backbone.conv1.weight"].flip(1))
    assert len(resolve_weights(path).state_dict) == len(state)
