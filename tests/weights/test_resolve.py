"""From what a user names to weights: our files, published names from a mirror, and files of other frameworks."""

import hashlib
import importlib
import json
import logging
import pickle
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hostile import torch_file
from safetensors.torch import save as to_safetensors
from tiny_models import tiny_config
from torch import Tensor
from weights_server import Server, serving

from detector.categories import CategoryMap
from detector.config import (
    BackboneConfig,
    Config,
    DetectionConfig,
    FPNConfig,
    InputConfig,
    ModelConfig,
    RoIConfig,
    RPNConfig,
    save_config,
)
from detector.errors import UserError
from detector.model.build import build_model
from detector.weights import resolve
from detector.weights.files import WeightsFile, save_weights
from detector.weights.lineages.coco_categories import COCO_CATEGORIES
from detector.weights.lineages.detectron2_export import write_detectron2
from detector.weights.lineages.mmdetection_config_text import read_mmdetection_config
from detector.weights.lineages.torchvision_export import to_torchvision_pyramid
from detector.weights.lineages.torchvision_resnet import to_torchvision_resnet
from detector.weights.published.catalogue import PUBLISHED, suggest
from detector.weights.resolve import resolve_weights
from detector.weights.state_layout import model_shapes

NAMES = CategoryMap.from_names(["a", "b", "c"])


def random_state(config: Config) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in model_shapes(config).items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_our_own_file_and_another_config_for_it(tmp_path: Path) -> None:
    config = tiny_config()
    state = random_state(config)
    path = tmp_path / "m.safetensors"
    save_weights(path, state, config, NAMES, {"AP": 0.5})
    found = resolve_weights(str(path))
    assert same(found.state_dict, state)
    assert (found.config, found.categories, found.provenance) == (config, NAMES, {"AP": 0.5})
    changed = replace(config, input=replace(config.input, min_size_test=123))
    save_config(changed, tmp_path / "c.yaml")
    assert resolve_weights(path, tmp_path / "c.yaml").config == changed


def test_detectron2_needs_its_config(references: Path) -> None:
    folder = references / "r50_w6_c6"
    with pytest.raises(UserError, match=r"needs its config; give its config\.yaml with --config"):
        resolve_weights(folder / "model.pth")
    found = resolve_weights(folder / "model.pth", folder / "config.yaml")
    assert found.categories.names == [f"class_{label}" for label in range(1, 7)]
    assert found.provenance == {"converted_from": "detectron2", "file": "model.pth"}


def test_80_classes_without_names_are_cocos(shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = shared / "fixtures/detectron2/r101_w3_c80"
    with caplog.at_level(logging.INFO, logger="detector"):
        found = resolve_weights(folder / "model.pth", folder / "config.yaml")
    assert found.categories == COCO_CATEGORIES
    assert "model.pth names no classes; being 80, they are taken to be COCO's" in caplog.text


def test_torch_saved_weights_of_ours_need_a_config(tmp_path: Path) -> None:
    config = tiny_config()
    state = random_state(config)
    path = tmp_path / "m.pth"
    path.write_bytes(torch_file({"model": state, "categories": NAMES.to_coco()}))
    with pytest.raises(UserError, match="our weights without their config"):
        resolve_weights(path)
    save_config(config, tmp_path / "c.yaml")
    found = resolve_weights(path, tmp_path / "c.yaml")
    assert same(found.state_dict, state)
    assert found.categories == NAMES


@pytest.mark.parametrize("kind", ["c4", "fpn"])
def test_a_config_need_not_repeat_the_number_of_classes(kind: Literal["c4", "fpn"], tmp_path: Path) -> None:
    """A recipe leaves it to the data; weights that are given a config say it too."""
    model = ModelConfig(
        kind=kind,
        num_classes=3,
        backbone=BackboneConfig(depth=18, stem_channels=4, width=4, norm="batch"),
        fpn=FPNConfig(channels=4),
        rpn=RPNConfig(anchor_rounding=True, anchor_strides="measured", rank_by="sigmoid_after_top_n", min_size=1e-3),
        roi=RoIConfig(pooled_size=7, aligned=False, level_rule="torchvision", fc_channels=4),
        detection=DetectionConfig(min_size=1e-2),
    )
    model = replace(model, backbone=replace(model.backbone, stride_in_1x1=False))
    config = Config(model=model, input=InputConfig(resize="torchvision", pad_to_multiple=32))
    state = random_state(config)
    files = {"ours.pth": state} | ({"theirs.pth": to_torchvision_pyramid(state, config)} if kind == "fpn" else {})
    save_config(replace(config, model=replace(model, num_classes=None)), tmp_path / "c.yaml")
    for name, tensors in files.items():
        (tmp_path / name).write_bytes(torch_file(tensors))
        found = resolve_weights(tmp_path / name, tmp_path / "c.yaml")
        assert found.config == config
        assert same(found.state_dict, state)


def test_imagenet_networks_are_a_backbone_alone(tmp_path: Path) -> None:
    config = tiny_config()
    state = random_state(config)
    path = tmp_path / "r18.pth"
    path.write_bytes(torch_file(to_torchvision_resnet(state)))
    found = resolve_weights(path)
    assert len(found.categories) == 0
    assert found.config.model.backbone.depth == 18
    assert found.state_dict.keys() == {n for n in state if n.startswith(("backbone.", "roi_head.conv5_x."))}


def test_what_is_neither_file_nor_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file, and no such published name; did you mean R101-C4-3x\?"):
        resolve_weights("r101-c4-3x")
    with pytest.raises(UserError, match=r"published names are R50-C4-1x, .*, MSRA-R-101, and mmdetection's"):
        resolve_weights(str(tmp_path / "nowhere.safetensors"))
    with pytest.raises(UserError, match="is a folder"):
        resolve_weights(tmp_path)
    (tmp_path / "x.pth").write_bytes(torch_file({"layers.0.weight": torch.ones(1), "fc": torch.ones(1)}))
    with pytest.raises(UserError, match=r"names such as layers\.0\.weight, fc match no model known here"):
        resolve_weights(tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"leave c\.yaml out"):
        resolve_weights("R101-C4-3x", "c.yaml")


def test_categories_in_the_file_must_fit(tmp_path: Path) -> None:
    state = random_state(tiny_config())
    save_config(tiny_config(), tmp_path / "c.yaml")
    (tmp_path / "m.pth").write_bytes(torch_file({"model": state, "categories": [{"id": 1, "name": "a"}]}))
    with pytest.raises(UserError, match=r"m\.pth: has 3 classes and names 1 categories"):
        resolve_weights(tmp_path / "m.pth", tmp_path / "c.yaml")


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: Path) -> Iterator[Server]:
    """A server of the narrow R101-C4 as if it were the published one, whose checksum is that of the narrow one."""
    folder = shared / "fixtures/detectron2/r101_w3_c80"
    content = (folder / "model.pkl").read_bytes()
    published = PUBLISHED["R101-C4-3x"]
    widths = {"STEM_OUT_CHANNELS": 3, "WIDTH_PER_GROUP": 3, "RES2_OUT_CHANNELS": 12}
    narrow = replace(
        published,
        checksum=("md5", hashlib.md5(content).hexdigest()[:6]),
        settings={**(published.settings or {}), **{f"MODEL.RESNETS.{k}": v for k, v in widths.items()}},
    )
    monkeypatch.setattr(resolve, "PUBLISHED", {"R101-C4-3x": narrow})
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("DETECTOR_OFFLINE", raising=False)
    with serving(content) as server:
        monkeypatch.setenv("DETECTOR_MIRROR", server.address)
        yield server


def test_published_name_from_a_mirror(mirror: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolve_weights("R101-C4-3x")
    assert mirror.requests == ["/detectron2/COCO-Detection/faster_rcnn_R_101_C4_3x/138204752/model_final_298dad.pkl"]
    assert found.categories == COCO_CATEGORIES
    assert found.config.train.milestones == (210_000, 250_000)
    assert found.config.model.backbone.depth == 101
    assert found.provenance["published_AP"] == 41.1
    assert found.provenance["published_as"] == "R101-C4-3x"
    monkeypatch.setenv("DETECTOR_OFFLINE", "1")
    assert same(resolve_weights("R101-C4-3x").state_dict, found.state_dict)


def published_as(
    name: str, content: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any
) -> tuple[WeightsFile, list[str]]:
    """What a name resolves to whose file is this, and which addresses were asked for."""
    published = replace(PUBLISHED[name], checksum=("sha256", hashlib.sha256(content).hexdigest()[:8]), **changes)
    monkeypatch.setattr(resolve, "PUBLISHED", {name: published})
    monkeypatch.setenv("DETECTOR_CACHE", str(folder / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("DETECTOR_OFFLINE", raising=False)
    with serving(content) as server:
        monkeypatch.setenv("DETECTOR_MIRROR", server.address)
        found = resolve_weights(name)
        return found, list(server.requests)


def test_a_model_that_mmdetection_publishes(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shared / "fixtures/mmdetection/r101_caffe_c4_w2_c80"
    content, settings = (folder / "checkpoint.pth").read_bytes(), read_mmdetection_config(folder / "config.py")
    name = "faster-rcnn_r50-caffe_c4-1x_coco"
    found, requests = published_as(name, content, tmp_path, monkeypatch, settings=settings)
    assert requests == [PUBLISHED[name].url.removeprefix("https://download.openmmlab.com")]
    assert found.categories == COCO_CATEGORIES
    assert found.provenance["converted_from"] == "mmdetection"
    assert found.provenance["published_AP"] == 35.6
    same_file = resolve_weights(folder / "checkpoint.pth", folder / "config.py")
    assert same(found.state_dict, same_file.state_dict)
    assert found.config == same_file.config


def test_a_model_that_torchvision_publishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A narrow one of its 91 rows, whose labels are COCO's ids, those too that stand for nothing."""
    backbone = BackboneConfig(depth=50, stem_channels=4, width=2, norm_eps=0.0, stride_in_1x1=False)
    rpn = RPNConfig(anchor_rounding=True, anchor_strides="measured", rank_by="sigmoid_after_top_n")
    roi = RoIConfig(pooled_size=7, aligned=False, level_rule="torchvision", fc_channels=8)
    fpn, detection = FPNConfig(channels=8), DetectionConfig(min_size=1e-2)
    model = ModelConfig(kind="fpn", num_classes=90, backbone=backbone, fpn=fpn, rpn=rpn, roi=roi, detection=detection)
    config = Config(model=model, input=InputConfig(resize="torchvision"))
    state = random_state(config)
    content = torch_file(to_torchvision_pyramid(state, config))
    found, requests = published_as("fasterrcnn_resnet50_fpn", content, tmp_path, monkeypatch)
    assert requests == ["/models/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"]
    assert same(found.state_dict, state)
    assert found.config.model.backbone.norm_eps == 0
    assert found.provenance["published_AP"] == 37.0
    assert [c.id for c in found.categories.categories] == list(range(1, 91))
    named = {c.id: c.name for c in found.categories.categories if not c.name.startswith("N/A")}
    assert named == {c.id: c.name for c in COCO_CATEGORIES.categories}


def test_facts_of_the_published_files() -> None:
    hosts = r"dl\.fbaipublicfiles\.com/detectron2|download\.pytorch\.org/models|download\.openmmlab\.com/mmdetection"
    for name, published in PUBLISHED.items():
        assert re.match(rf"https://({hosts})/", published.url)
        if published.checksum is not None:
            assert published.checksum[1] in published.url.rpartition("/")[2], name
        assert published.is_detector == (published.ap is not None)
    assert {name: p.ap for name, p in PUBLISHED.items() if p.kind == "detectron2"} == {
        "R50-C4-1x": 35.7,
        "R50-C4-3x": 38.4,
        "R101-C4-3x": 41.1,
        "R50-DC5-1x": 37.3,
        "R50-DC5-3x": 39.0,
        "R101-DC5-3x": 40.6,
        "R50-FPN-1x": 37.9,
        "R50-FPN-3x": 40.2,
        "R101-FPN-3x": 42.0,
        "X101-FPN-3x": 43.0,
    }
    assert PUBLISHED["R50-C4-1x"].url.endswith("faster_rcnn_R_50_C4_1x/137257644/model_final_721ade.pkl")
    assert PUBLISHED["R50-C4-3x"].url.endswith("faster_rcnn_R_50_C4_3x/137849393/model_final_f97cb7.pkl")
    assert PUBLISHED["R50-FPN-3x"].url.endswith("faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl")
    assert PUBLISHED["R101-FPN-3x"].url.endswith("faster_rcnn_R_101_FPN_3x/137851257/model_final_f6e8b1.pkl")
    assert PUBLISHED["X101-FPN-3x"].url.endswith("faster_rcnn_X_101_32x8d_FPN_3x/139173657/model_final_68b088.pkl")


def test_torchvision_names_the_same_files() -> None:
    models = pytest.importorskip("torchvision.models")
    for depth in (18, 34, 50, 101, 152):
        weights = getattr(models, f"ResNet{depth}_Weights").IMAGENET1K_V1
        published = PUBLISHED[f"ResNet-{depth}"]
        assert (published.url, published.megabytes) == (weights.url, weights.meta["_file_size"])


def test_suggestions() -> None:
    assert suggest("resnet-50") == "did you mean ResNet-50?"
    assert suggest("yolo").startswith("published names are R50-C4-1x")


def test_coco_categories_are_those_of_its_files(shared: Path) -> None:
    for path in (shared / "data/coco_annotations").glob("*.json"):
        assert CategoryMap.from_coco(json.loads(path.read_bytes())["categories"]) == COCO_CATEGORIES
    assert len(COCO_CATEGORIES) == 80
    assert COCO_CATEGORIES.categories[-1].id == 90


def test_hostile_file_is_refused_through_the_front_door(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return eval, (f"open({str(tmp_path / 'canary')!r}, 'w')",)

    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"model": Evil()}))
    with pytest.raises(UserError, match=r"refused, it wants builtins\.eval"):
        resolve_weights(tmp_path / "m.pkl")
    assert not (tmp_path / "canary").exists()


def test_importing_the_package_imports_nothing_heavy() -> None:
    before = set(sys.modules)
    importlib.import_module("detector.weights")
    assert not {name for name in set(sys.modules) - before if name.startswith(("torch", "numpy"))}


def test_written_detectron2_checkpoints_resolve(tmp_path: Path) -> None:
    config = tiny_config(backbone={"depth": 50})
    state = random_state(config)
    config_path, _ = write_detectron2(tmp_path / "m.pth", state, config, NAMES)
    assert same(resolve_weights(tmp_path / "m.pth", config_path).state_dict, state)


def test_files_are_known_by_what_they_hold(tmp_path: Path) -> None:
    """Ours under another name, and another program's under ours."""
    config = tiny_config(num_classes=2)
    state = build_model(config).state_dict()
    ours = tmp_path / "ours.safetensors"
    save_weights(ours, state, config, CategoryMap.from_names(["a", "b"]), {})
    assert resolve_weights(ours.rename(tmp_path / "ours.pth")).categories.names == ["a", "b"]
    resnet = to_torchvision_resnet(state)
    theirs = tmp_path / "theirs.safetensors"
    theirs.write_bytes(to_safetensors(resnet, {"format": "pt"}))
    assert len(resolve_weights(theirs).state_dict) == len(resnet)
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(torch_file(dict(state)))
    with pytest.raises(UserError, match=r"our weights without their config; give it with --config"):
        resolve_weights(alone)
    save_config(config, tmp_path / "config.yaml")
    assert len(resolve_weights(alone, tmp_path / "config.yaml").categories) == 2
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(bytes(99))
    with pytest.raises(UserError, match="not a complete safetensors file"):
        resolve_weights(torn)
