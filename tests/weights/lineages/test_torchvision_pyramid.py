"""torchvision's Faster R-CNN over a pyramid: recognised by its names, of both generations; other models by theirs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from detector.config import Config, override_config
from detector.errors import UserError
from detector.weights.lineages.torchvision_export import differing_settings, to_torchvision_pyramid
from detector.weights.lineages.torchvision_pyramid import (
    from_torchvision_pyramid,
    is_torchvision_pyramid,
    newer_names,
    other_torchvision_model,
    torchvision_pyramid_config,
)
from detector.weights.resolve import resolve_weights


def tensors_of(make: Callable[..., nn.Module], **settings: Any) -> dict[str, Tensor]:
    """Names and shapes of a model, without its numbers."""
    with torch.device("meta"):
        return make(weights=None, weights_backbone=None, **settings).state_dict()


def numbered(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor with numbers of its own, in little memory."""
    return {name: torch.full((), float(i)).expand(t.shape) for i, (name, t) in enumerate(tensors.items())}


@pytest.fixture(scope="module")
def v1() -> dict[str, Tensor]:
    return tensors_of(detection.fasterrcnn_resnet50_fpn, num_classes=8)


@pytest.fixture(scope="module")
def v2() -> dict[str, Tensor]:
    return tensors_of(detection.fasterrcnn_resnet50_fpn_v2, num_classes=8)


def test_settings_of_both(v1: dict[str, Tensor], v2: dict[str, Tensor]) -> None:
    one, two = (torchvision_pyramid_config(tensors, "x.pth") for tensors in (v1, v2))
    for config in (one, two):
        assert is_torchvision_pyramid(v1)
        assert config.model.network == "ResNet-50-FPN"
        assert config.model.num_classes == 7
        assert config.model.roi.level_rule == "torchvision"
        assert config.input.pad_to_multiple == 32
    assert (one.model.fpn.norm, one.model.rpn.conv_layers, one.model.roi.conv_layers) == (None, 1, 0)
    assert (one.model.roi.fc_layers, two.model.roi.fc_layers) == (2, 1)
    assert (two.model.fpn.norm, two.model.rpn.conv_layers, two.model.roi.conv_layers) == ("batch", 2, 4)
    assert two.model.roi.conv_norm == "batch"


def frozen(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As of a model with frozen batch norms, which count no batches."""
    return {name: t for name, t in tensors.items() if not name.endswith("num_batches_tracked")}


def test_the_epsilon_of_frozen_norms_is_0_in_a_model_of_cocos_91_rows_alone(v1: dict[str, Tensor]) -> None:
    published = frozen(tensors_of(detection.fasterrcnn_resnet50_fpn, num_classes=91))
    backbone = torchvision_pyramid_config(published, "x.pth").model.backbone
    assert (backbone.norm, backbone.norm_eps, backbone.freeze_stages) == ("frozen_batch", 0.0, 2)
    backbone = torchvision_pyramid_config(frozen(v1), "x.pth").model.backbone
    assert (backbone.norm, backbone.norm_eps) == ("frozen_batch", 1e-5)
    backbone = torchvision_pyramid_config(v1, "x.pth").model.backbone
    assert (backbone.norm, backbone.norm_eps, backbone.freeze_stages) == ("batch", 1e-5, 0)


@pytest.mark.parametrize(
    ("name", "network"),
    [("resnet18", "ResNet-18-FPN"), ("resnet101", "ResNet-101-FPN"), ("resnext50_32x4d", "ResNeXt-50-32x4d-FPN")],
)
def test_other_resnets_in_the_same_frame(name: str, network: str) -> None:
    with torch.device("meta"):
        model = detection.FasterRCNN(resnet_fpn_backbone(backbone_name=name, weights=None), 4)
    tensors = numbered(model.state_dict())
    config = torchvision_pyramid_config(tensors, "x.pth")
    assert config.model.network == network
    state = from_torchvision_pyramid(tensors, config, "x.pth")
    assert to_torchvision_pyramid(state, config).keys() == tensors.keys()


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_there_and_back(version: str, request: pytest.FixtureRequest) -> None:
    tensors = numbered(request.getfixturevalue(version))
    config = torchvision_pyramid_config(tensors, "x.pth")
    ours = from_torchvision_pyramid(tensors, config, "x.pth")
    back = to_torchvision_pyramid(ours, config)
    assert back.keys() == tensors.keys()
    again = from_torchvision_pyramid(back, config, "x.pth")
    assert all(torch.equal(again[name], ours[name]) for name in ours)
    background = back["roi_heads.box_predictor.bbox_pred.weight"][:4]
    assert torch.equal(background, torch.zeros_like(background))


def test_names_of_older_versions(v1: dict[str, Tensor]) -> None:
    newer = numbered(v1)
    older = {name.replace("_blocks.0.0.", "_blocks.0.").replace("conv.0.0.", "conv."): t for name, t in newer.items()}
    older = {name.replace("_blocks.1.0.", "_blocks.1."): tensor for name, tensor in older.items()}
    assert older.keys() != newer.keys()
    assert newer_names(older).keys() == newer.keys()
    config = torchvision_pyramid_config(older, "x.pth")
    ours, same = (from_torchvision_pyramid(tensors, config, "x.pth") for tensors in (older, newer))
    assert all(torch.equal(ours[name], same[name]) for name in ours)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (detection.fasterrcnn_mobilenet_v3_large_fpn, "Faster R-CNN on MobileNet"),
        (detection.ssd300_vgg16, "SSD or SSDlite"),
        (detection.ssdlite320_mobilenet_v3_large, "SSD or SSDlite"),
        (detection.retinanet_resnet50_fpn, "RetinaNet"),
        (detection.fcos_resnet50_fpn, "FCOS"),
    ],
)
def test_other_models_are_refused_by_name(make: Callable[..., nn.Module], name: str, tmp_path: Path) -> None:
    tensors = tensors_of(make)
    assert other_torchvision_model(tensors) == name
    path = tmp_path / "model.pth"
    torch.save({key: torch.zeros(1) for key in tensors}, path)
    with pytest.raises(UserError, match=rf"model\.pth: {name} of torchvision, which is another network"):
        resolve_weights(path)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (detection.maskrcnn_resnet50_fpn, "Mask R-CNN"),
        (detection.maskrcnn_resnet50_fpn_v2, "Mask R-CNN"),
        (detection.keypointrcnn_resnet50_fpn, "Keypoint R-CNN"),
    ],
)
def test_of_mask_and_keypoint_models_the_box_branch_loads_when_asked(
    make: Callable[..., nn.Module], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    tensors = numbered(tensors_of(make))
    config = torchvision_pyramid_config(tensors, "x.pth")
    with pytest.raises(UserError, match=rf"^x\.pth: a {name} of torchvision; --boxes-only loads its box branch"):
        from_torchvision_pyramid(tensors, config, "x.pth")
    caplog.set_level("INFO")
    state = from_torchvision_pyramid(tensors, config, "x.pth", boxes_only=True)
    assert f"tensors of the {name} branch" in caplog.text
    plain = {key: t for key, t in tensors.items() if "mask" not in key and "keypoint" not in key}
    assert to_torchvision_pyramid(state, config).keys() == plain.keys()
    with pytest.raises(UserError, match="has neither masks nor keypoints"):
        from_torchvision_pyramid(plain, config, "x.pth", boxes_only=True)


def test_other_anchors_need_a_config(v1: dict[str, Tensor]) -> None:
    tensors = v1 | {"rpn.head.cls_logits.weight": torch.zeros(9, 256, 1, 1)}
    with pytest.raises(UserError, match=r"has 9 anchors a cell .* --config"):
        torchvision_pyramid_config(tensors, "x.pth")


def test_what_torchvision_has_no_counterpart_for_is_named(v1: dict[str, Tensor]) -> None:
    config = torchvision_pyramid_config(v1, "x.pth")
    assert differing_settings(config) == []
    differing = differing_settings(Config())
    assert "model.kind=c4" in differing
    assert "input.resize=pil" in differing
    with pytest.raises(UserError, match=r"torchvision has no counterpart for model\.kind=c4, "):
        to_torchvision_pyramid({}, Config())
    words = ["model.backbone.norm=batch", "model.backbone.shrinkage=channel", "model.roi.global_context=true"]
    words += ["model.detection.refine_passes=1", "model.detection.merge=weighted_fusion"]
    changed = {text.rsplit(".", 1)[1] for text in differing_settings(override_config(config, words))}
    assert changed == {"shrinkage=channel", "global_context=True", "refine_passes=1", "merge=weighted_fusion"}
