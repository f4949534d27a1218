"""Starting from weights: what comes, what is re-made by class name, what starts fresh, and what is refused."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import torch_file
from tiny_models import tiny_config
from torch import nn

from detector.categories import CategoryMap
from detector.config import Config
from detector.errors import UserError
from detector.model.build import build_model
from detector.weights import backbone_weights
from detector.weights.backbone_weights import check_preparation, resolve_backbone
from detector.weights.files import save_weights
from detector.weights.initialise import initialise, load_backbone, load_matching, remake_rows
from detector.weights.lineages.torchvision_resnet import to_torchvision_resnet
from detector.weights.published.catalogue import PUBLISHED

ANIMALS = CategoryMap.from_names(["cat", "dog", "cow"])


def random_model(config: Config, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = build_model(config)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.normal_()
    return model


def with_weights(config: Config, weights: Path | str) -> Config:
    return replace(config, model=replace(config.model, weights=str(weights)))


def with_backbone(config: Config, **changes: Any) -> Config:
    return replace(config, model=replace(config.model, backbone=replace(config.model.backbone, **changes)))


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    config = tiny_config()
    path = tmp_path / "trained.safetensors"
    save_weights(path, random_model(config, 1).state_dict(), config, ANIMALS, {})
    return path


def test_the_order_of_a_cells_anchors_must_be_that_of_the_weights(trained: Path) -> None:
    """As many channels, each for another anchor: nothing else would notice."""
    config = with_weights(tiny_config(rpn={"anchor_order": "ratio"}), trained)
    with pytest.raises(UserError, match=r"trained with model\.rpn\.anchor_order=size; set the config to the same"):
        initialise(random_model(config, 2), config, ANIMALS)


def test_the_same_classes_take_all(trained: Path) -> None:
    config = with_weights(tiny_config(), trained)
    model = random_model(config, 2)
    report = initialise(model, config, ANIMALS)
    assert report is not None
    assert (report.remade, report.fresh) == ([], [])
    expected = random_model(tiny_config(), 1).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_rows_follow_the_names_of_classes(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = with_weights(tiny_config(num_classes=4), trained)
    model, untouched = random_model(config, 2), random_model(config, 2).state_dict()
    source = random_model(tiny_config(), 1).state_dict()
    with caplog.at_level(logging.INFO, logger="detector"):
        initialise(model, config, CategoryMap.from_names(["horse", "cow", "cat", "bird"]))
    result = model.state_dict()
    scores, boxes = "roi_head.cls_score.weight", "roi_head.bbox_pred.bias"
    assert torch.equal(result[scores][0], source[scores][0])  # background
    assert torch.equal(result[scores][2], source[scores][3])  # cow
    assert torch.equal(result[scores][3], source[scores][1])  # cat
    assert torch.equal(result[scores][[1, 4]], untouched[scores][[1, 4]])
    assert torch.equal(result[boxes][4:8], source[boxes][8:12])
    assert torch.equal(result[boxes][8:12], source[boxes][0:4])
    assert torch.equal(result[boxes][:4], untouched[boxes][:4])
    assert torch.equal(result["rpn.conv.weight"], source["rpn.conv.weight"])
    assert "roi_head.cls_score.weight (2 of 4 classes known by name)" in caplog.text
    assert "roi_head.bbox_pred.bias (2 of 4 classes known by name)" in caplog.text
    assert f"{len(source) - 4} tensors came from it" in caplog.text


def test_reordered_classes_of_the_same_number_are_reordered(trained: Path) -> None:
    config = with_weights(tiny_config(), trained)
    model = random_model(config, 2)
    initialise(model, config, CategoryMap.from_names(["dog", "cow", "cat"]))
    source = random_model(tiny_config(), 1).state_dict()["roi_head.cls_score.bias"]
    assert torch.equal(model.state_dict()["roi_head.cls_score.bias"], source[[0, 2, 3, 1]])


def test_ambiguous_names_are_not_matched() -> None:
    fresh, source = torch.zeros(3), torch.tensor([9.0, 1.0, 2.0])
    rows, shared = remake_rows(fresh, source, ["cat", "cat"], ["cat", "dog"], "roi_head.cls_score.bias")
    assert (rows.tolist(), shared) == ([9.0, 0.0, 0.0], 0)
    assert fresh.tolist() == [0, 0, 0], "the argument was changed"


def test_other_anchors_make_the_rpn_fresh(trained: Path) -> None:
    config = with_weights(tiny_config(rpn={"anchor_sizes": (16.0,)}), trained)
    report = initialise(random_model(config, 2), config, ANIMALS)
    assert report is not None
    assert report.fresh == [
        f"rpn.{layer}.{kind}" for layer in ("objectness", "anchor_deltas") for kind in ("weight", "bias")
    ]
    assert "new: rpn.objectness.weight, rpn.objectness.bias" in report.describe()


def test_another_backbone_is_refused(trained: Path) -> None:
    for changes, named in (
        ({"depth": 34}, r"missing \(\d+\): backbone.conv2_x.2.conv1.weight"),
        (
            {"width": 4},
            r"of another shape \(\d+\): backbone.conv2_x.0.conv1.weight is \[8, 8, 3, 3\] and should be \[4, 8, ",
        ),
        ({"norm": "group"}, r"left over \(\d+\): backbone.conv2_x.0.norm1.running_mean"),
    ):
        config = with_weights(with_backbone(tiny_config(), **changes), trained)
        with pytest.raises(UserError, match=rf"its backbone is not the network that .*{named}"):
            initialise(build_model(config), config, ANIMALS)


def test_live_and_frozen_norms_exchange_their_statistics(trained: Path) -> None:
    config = with_weights(with_backbone(tiny_config(), norm="batch"), trained)
    report = initialise(random_model(config, 2), config, ANIMALS)
    assert report is not None
    assert report.fresh == []


def test_other_preparation_of_pictures_is_refused(trained: Path) -> None:
    config = with_weights(tiny_config(inputs={"pixel_std": (1.0, 1.0, 1.0)}), trained)
    with pytest.raises(UserError, match=r"were trained with input\.pixel_std=\[58\.395, 57\.12, 57\.375\]; set"):
        initialise(build_model(config), config, ANIMALS)
    base = tiny_config(backbone={"depth": 50})
    bgr = replace(base, input=replace(base.input, pixel_mean=(103.53, 116.28, 123.675)))
    with pytest.raises(UserError, match=r"stride_in_1x1=false, input\.pixel_mean=\[103\.53"):
        check_preparation(base, with_backbone(bgr, stride_in_1x1=False), "x")
    near = replace(base, input=replace(base.input, pixel_mean=(122.77, 115.95, 102.98)))
    check_preparation(base, near, "x")


def test_nothing_to_start_from() -> None:
    config = tiny_config()
    assert initialise(build_model(config), config, ANIMALS) is None


def torchvision_weights(path: Path, config: Config, last_stage: bool = True) -> Path:
    resnet = to_torchvision_resnet(random_model(config, 3).state_dict())
    path.write_bytes(torch_file({n: t for n, t in resnet.items() if last_stage or not n.startswith("layer4.")}))
    return path


def test_backbone_from_imagenet_weights(tmp_path: Path) -> None:
    plain = tiny_config()
    config = with_backbone(plain, weights=str(torchvision_weights(tmp_path / "r18.pth", plain)))
    model = random_model(config, 2)
    report = initialise(model, config, ANIMALS)
    assert report is not None
    expected = random_model(plain, 3).state_dict()
    assert torch.equal(
        model.state_dict()["roi_head.conv5_x.1.conv2.weight"], expected["roi_head.conv5_x.1.conv2.weight"]
    )
    assert len(report.loaded) == len(to_torchvision_resnet(expected))
    assert all(name.startswith(("rpn.", "roi_head.cls_score", "roi_head.bbox_pred")) for name in report.fresh)


def test_backbone_without_last_stage(tmp_path: Path) -> None:
    plain = tiny_config()
    weights = str(torchvision_weights(tmp_path / "r18.pth", plain, last_stage=False))
    frozen = with_backbone(plain, weights=weights)
    with pytest.raises(UserError, match=r"has no conv5_x, .* set model\.backbone\.conv5_norm=group or batch"):
        initialise(build_model(frozen), frozen, ANIMALS)
    config = with_backbone(plain, weights=weights, conv5_norm="group")
    report = initialise(build_model(config), config, ANIMALS)
    assert report is not None
    assert "roi_head.conv5_x," in report.describe()


def test_backbone_of_our_own_file(trained: Path) -> None:
    config = with_backbone(tiny_config(num_classes=9), weights=str(trained))
    model = random_model(config, 2)
    report = initialise(model, config, CategoryMap.from_names(list("abcdefghi")))
    assert report is not None
    assert torch.equal(
        model.state_dict()["backbone.conv1.weight"],
        random_model(tiny_config(), 1).state_dict()["backbone.conv1.weight"],
    )
    with pytest.raises(UserError, match="the order of its channels is known"):
        resolve_backbone(with_backbone(config, weights_channels="bgr"))
    other_end = with_backbone(config, conv5_norm="group")
    assert all(name.startswith("backbone.") for name in resolve_backbone(other_end).state)


def test_published_backbones_know_how_they_were_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(inputs={"pixel_std": (1.0, 1.0, 1.0)})
    path = torchvision_weights(tmp_path / "r18.pth", config)
    monkeypatch.setattr(backbone_weights, "fetch", lambda name, _published: path if name == "ResNet-18" else None)
    with pytest.raises(UserError, match=r"ResNet-18: these weights were trained with input\.pixel_std=\[58\.395"):
        resolve_backbone(with_backbone(config, weights="ResNet-18"))
    fed_right = with_backbone(tiny_config(), weights="ResNet-18")
    assert resolve_backbone(fed_right).trained_with is not None
    with pytest.raises(UserError, match="the order of its channels is known"):
        resolve_backbone(with_backbone(fed_right, weights_channels="bgr"))


def test_what_is_no_backbone(tmp_path: Path, trained: Path) -> None:
    (tmp_path / "x.pth").write_bytes(torch_file({"proposal_generator.x": torch.ones(1)}))
    assert PUBLISHED["R101-C4-3x"].is_detector
    for source in ("R101-C4-3x", str(tmp_path / "x.pth")):
        with pytest.raises(
            UserError, match=r"this is not an ImageNet ResNet; start from a detector with model\.weights"
        ):
            resolve_backbone(with_backbone(tiny_config(), weights=source))
    with pytest.raises(UserError, match="there is no such file, and no such name; did you mean ResNet-50"):
        resolve_backbone(with_backbone(tiny_config(), weights="Resnet50"))
    alone = tmp_path / "alone.safetensors"
    state = {n: t for n, t in random_model(tiny_config(), 1).state_dict().items() if n.startswith("backbone.")}
    save_weights(alone, state, tiny_config(), CategoryMap(()), {})
    config = with_weights(tiny_config(), alone)
    with pytest.raises(UserError, match=r"holds a backbone alone; set model\.backbone\.weights"):
        initialise(build_model(config), config, ANIMALS)
    assert trained.is_file()


def test_loading_lists_every_tensor_once() -> None:
    config = tiny_config()
    model = build_model(config)
    state = random_model(config, 1).state_dict()
    report = load_matching(model, state, ANIMALS, CategoryMap.from_names(["cat", "x", "y"]), "w")
    remade = [text.split(" ")[0] for text in report.remade]
    assert sorted(report.loaded + remade + report.fresh) == sorted(model.state_dict())
    body = {name: tensor for name, tensor in state.items() if name.startswith("backbone.")}
    grouped = build_model(with_backbone(config, conv5_norm="group"))
    report = load_backbone(grouped, body, "w")
    assert sorted(report.loaded + report.fresh) == sorted(grouped.state_dict())
