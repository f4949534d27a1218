"""ImageNet ResNets of torchvision and of Caffe2, as backbone and conv5_x."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from detector.config import BackboneConfig, Config
from detector.errors import UserError
from detector.model.build import build_model
from detector.weights.lineages.caffe2_resnet import from_caffe2, is_caffe2
from detector.weights.lineages.detectron2_config import config_from_detectron2
from detector.weights.lineages.detectron2_settings import read_settings
from detector.weights.lineages.detectron2_tensors import RENAMES
from detector.weights.lineages.imagenet import backbone_of, imagenet_config, imagenet_state, resnet_names_of
from detector.weights.lineages.torchvision_resnet import (
    from_torchvision_resnet,
    is_torchvision_resnet,
    to_torchvision_resnet,
)
from detector.weights.remap import translate
from detector.weights.state_layout import backbone_shapes
from detector.weights.untrusted.foreign_file import read_foreign

DEPTHS = [18, 34, 50, 101, 152]


def with_backbone(backbone: BackboneConfig) -> Config:
    return replace(Config(), model=replace(Config().model, backbone=backbone, num_classes=1))


def narrow_resnet(depth: int) -> dict[str, Tensor]:
    """The names of torchvision's ResNet with channels of an eighth of the width, random."""
    with torch.device("meta"):
        network = getattr(torchvision.models, f"resnet{depth}")()
    torch.manual_seed(depth)
    state = {}
    for name, tensor in network.state_dict().items():
        shape = [size if size in (1, 3, 7) else max(size // 8, 1) for size in tensor.shape]
        state[name] = torch.randn(shape) if tensor.is_floating_point() else torch.tensor(3)
    return state


@pytest.mark.parametrize("depth", DEPTHS)
def test_torchvision_there_and_back(depth: int) -> None:
    tensors = narrow_resnet(depth)
    assert resnet_names_of(tensors) == "torchvision"
    backbone = backbone_of(tensors, "torchvision", "x")
    assert backbone == BackboneConfig(depth=depth, stem_channels=8, width=8, stride_in_1x1=False)
    config = with_backbone(backbone)
    state = from_torchvision_resnet(tensors, config, "x")
    assert state.keys() == backbone_shapes(config).keys()
    back = to_torchvision_resnet(state)
    expected = {n: t for n, t in tensors.items() if not n.startswith("fc.") and "num_batches" not in n}
    assert back.keys() == expected.keys()
    assert all(torch.equal(back[name], expected[name]) for name in back)
    again = from_torchvision_resnet(back, config, "x")
    assert all(torch.equal(again[name], state[name]) for name in state)


def test_real_torchvision_network_takes_them_back() -> None:
    network = torchvision.models.resnet18()
    state = from_torchvision_resnet(network.state_dict(), with_backbone(BackboneConfig(depth=18)), "x")
    assert torch.equal(state["roi_head.conv5_x.1.norm2.weight"], network.layer4[1].bn2.weight)
    assert torch.equal(state["backbone.conv3_x.0.shortcut.conv.weight"], network.layer2[0].downsample[0].weight)
    result = network.load_state_dict(to_torchvision_resnet(state), strict=False)
    assert result.unexpected_keys == []
    assert {name for name in result.missing_keys if "num_batches_tracked" not in name} == {"fc.weight", "fc.bias"}


def test_live_norms_get_their_counters() -> None:
    config = with_backbone(BackboneConfig(depth=18, stem_channels=8, width=8, norm="batch"))
    state = from_torchvision_resnet(narrow_resnet(18), config, "x")
    missing = build_model(config).load_state_dict(state, strict=False).missing_keys
    assert all(name.startswith(("rpn.", "roi_head.cls_score", "roi_head.bbox_pred")) for name in missing)
    assert state["backbone.norm1.num_batches_tracked"] == 3


def test_without_the_last_stage_conv5_x_is_missing_as_a_whole() -> None:
    tensors = {name: tensor for name, tensor in narrow_resnet(50).items() if not name.startswith("layer4.")}
    config = with_backbone(backbone_of(tensors, "torchvision", "x"))
    state = from_torchvision_resnet(tensors, config, "x")
    assert all(name.startswith("backbone.") for name in state)
    with pytest.raises(UserError, match=r"missing \(49\): layer4\.0\.bn1\.weight, .* and 41 more\."):
        from_torchvision_resnet(tensors | {"layer4.0.conv1.weight": torch.ones(64, 128, 1, 1)}, config, "x")


def test_the_last_stage_is_dropped_where_the_config_norms_it_otherwise() -> None:
    config = with_backbone(BackboneConfig(depth=18, stem_channels=8, width=8, conv5_norm="group"))
    state = from_torchvision_resnet(narrow_resnet(18), config, "x")
    assert all(name.startswith("backbone.") for name in state)


def test_bgr_weights_are_turned() -> None:
    tensors, config = narrow_resnet(18), with_backbone(BackboneConfig(depth=18, stem_channels=8, width=8))
    turned = from_torchvision_resnet(tensors, config, "x", "bgr")["backbone.conv1.weight"]
    assert torch.equal(turned[:, 0], tensors["conv1.weight"][:, 2])
    by_config = replace(config.model.backbone, weights_channels="bgr")
    assert torch.equal(imagenet_state(tensors, with_backbone(by_config), "x")["backbone.conv1.weight"], turned)


def test_remainders_are_listed() -> None:
    config = with_backbone(BackboneConfig(depth=18, stem_channels=8, width=8))
    with pytest.raises(UserError, match=r"left over \(\d\): layer1\.0\.se\.weight, head\.weight"):
        from_torchvision_resnet(
            narrow_resnet(18) | {"layer1.0.se.weight": torch.ones(1), "head.weight": torch.ones(1)}, config, "x"
        )
    with pytest.raises(UserError, match=r"left over \(\d+\): layer1\.0\.conv3\.weight, .* more"):
        from_torchvision_resnet(narrow_resnet(50), config, "x")


def test_group_norms_are_no_torchvision_resnet() -> None:
    state = {"backbone.norm1.weight": torch.ones(2), "backbone.norm1.bias": torch.ones(2)}
    with pytest.raises(UserError, match=r"backbone\.norm1 is not a batch norm"):
        to_torchvision_resnet(state)


def test_caffe2_backbones_become_what_detectron2_makes_of_them(references: Path) -> None:
    name = "msra_r50_w2_fused"
    folder = references / name
    tensors = read_foreign(folder / "backbone.pkl").tensors
    assert is_caffe2(tensors)
    assert not is_torchvision_resnet(tensors)
    settings = config_from_detectron2(read_settings(folder / "config.yaml"), name)
    assert backbone_of(tensors, "caffe2", name) == settings.model.backbone
    state = from_caffe2(tensors, settings, name)
    with np.load(folder / "expected_state_dict.npz") as expected:
        theirs = {key: torch.from_numpy(expected[key]) for key in expected.files}
    table = translate(state, RENAMES)
    assert sorted(table.values()) == sorted(theirs)
    for ours, key in table.items():
        value = theirs[key].flip(1) if ours == "backbone.conv1.weight" else theirs[key]  # they keep BGR
        assert torch.equal(state[ours], value), ours
    mapping = json.loads((folder / "mapping.json").read_text())
    used = set(mapping["checkpoint_key_to_model_key"])
    assert set(tensors) - used == {key for key in ("fc1000_w", "fc1000_b", "conv1_b") if key in tensors}


def test_caffe2_names_left_over_are_listed_and_momenta_are_not(references: Path) -> None:
    folder = references / "msra_r50_w2_fused"
    tensors = read_foreign(folder / "backbone.pkl").tensors
    config = imagenet_config(tensors, "caffe2", "x")
    from_caffe2(tensors | {"conv1_w_momentum": torch.ones(1)}, config, "x")
    with pytest.raises(UserError, match=r"left over \(\d\): conv_rpn_w.*missing \(1\): res4_3_branch2b_w"):
        from_caffe2(
            {n: t for n, t in tensors.items() if n != "res4_3_branch2b_w"} | {"conv_rpn_w": torch.ones(1)}, config, "x"
        )


def test_config_feeds_the_network_as_it_was_trained(references: Path) -> None:
    theirs = imagenet_config(narrow_resnet(50), "torchvision", "x")
    assert theirs.input.pixel_std == (58.395, 57.12, 57.375)
    assert not theirs.model.backbone.stride_in_1x1
    caffe2 = read_foreign(references / "msra_r50_w2_fused/backbone.pkl").tensors
    msra = imagenet_config(caffe2, "caffe2", "x")
    assert msra.input.pixel_std == (1.0, 1.0, 1.0)
    assert msra.model.backbone.stride_in_1x1
    assert msra.model.backbone.depth == 50


def test_other_depths_are_named() -> None:
    tensors = {n: t for n, t in narrow_resnet(50).items() if not n.startswith("layer3.5.")}
    with pytest.raises(UserError, match=r"x: \(3, 4, 5\) blocks .* match no ResNet"):
        backbone_of(tensors, "torchvision", "x")


@pytest.mark.parametrize(
    ("file", "depth", "mean", "deviation", "largest"),
    [
        pytest.param("resnet50_c4_msra_fp16.pth", 50, 0.50630, 0.83671, 21.6602, marks=pytest.mark.slow),
        ("resnet18_c4_folded_fp16.pth", 18, 0.11336, 0.17720, 2.5827),
    ],
)
def test_real_weights_give_the_recorded_features(
    shared: Path, file: str, depth: int, mean: float, deviation: float, largest: float
) -> None:
    cv2 = pytest.importorskip("cv2")
    msra = depth == 50
    backbone = BackboneConfig(depth=depth, stride_in_1x1=msra, weights_channels="bgr" if msra else "rgb")
    config = with_backbone(backbone)
    model = build_model(config).eval()
    state = imagenet_state(read_foreign(shared / "data/weights" / file).tensors, config, file)
    model.backbone.load_state_dict({name.removeprefix("backbone."): tensor for name, tensor in state.items()})
    pixels = cv2.imread(str(shared / "data/bccd/images/BloodImage_00001.jpg"))[:, :, ::-1].copy()  # RGB
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    center = torch.tensor([123.68, 116.779, 103.939] if msra else [123.675, 116.28, 103.53]).view(3, 1, 1)
    scale = torch.tensor([1.0, 1.0, 1.0] if msra else [58.395, 57.12, 57.375]).view(3, 1, 1)
    with torch.no_grad():
        (features,) = model.backbone((image - center) / scale)
    values = features.values
    assert values.mean().item() == pytest.approx(mean, abs=1e-5)
    assert values.std().item() == pytest.approx(deviation, abs=1e-5)
    assert values.max().item() == pytest.approx(largest, abs=1e-4)
