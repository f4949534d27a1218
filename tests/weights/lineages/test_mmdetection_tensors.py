"""mmdetection's tensors: what is dropped, repeated, refused; names of classes; the ways to the config."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmdetection_cases import EMBEDDED
from torch import Tensor

from detector.config import load_config
from detector.errors import UserError
from detector.weights.lineages.coco_categories import COCO_CATEGORIES
from detector.weights.lineages.mmdetection_config_text import read_mmdetection_config
from detector.weights.lineages.mmdetection_tensors import from_mmdetection, is_mmdetection, read_class_names
from detector.weights.resolve import resolve_weights
from detector.weights.untrusted.foreign_file import read_foreign

FOLDER = EMBEDDED / "v2_r50_fpn_w4_c7"
BOX = "roi_head.bbox_head."


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return read_foreign(FOLDER / "checkpoint.pth").tensors


@pytest.fixture
def values() -> dict[str, Any]:
    return read_mmdetection_config(FOLDER / "config.py")


def test_averages_beside_the_weights_are_left_out_as_mmdetection_does(
    tensors: dict[str, Tensor], values: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with_averages = tensors | {"ema_backbone_conv1_weight": tensors["backbone.conv1.weight"] + 1}
    state, _ = from_mmdetection(with_averages, values, "x.pth")
    assert torch.equal(state["backbone.body.conv1.weight"], tensors["backbone.conv1.weight"])
    assert "1 tensors of the averaging hook are left out" in caplog.text


def test_one_box_for_all_classes_becomes_one_of_each(tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    values["model"]["roi_head"]["bbox_head"]["reg_class_agnostic"] = True
    for kind in ("weight", "bias"):
        tensors[f"{BOX}fc_reg.{kind}"] = tensors[f"{BOX}fc_reg.{kind}"][:4]
    state, model = from_mmdetection(tensors, values, "x.pth")
    rows = state["roi_head.bbox_pred.weight"]
    assert model.class_agnostic
    assert rows.shape[0] == 4 * 7
    assert torch.equal(rows[24:], tensors[f"{BOX}fc_reg.weight"])


def test_of_a_mask_model_the_box_branch_loads_when_asked(
    tensors: dict[str, Tensor], values: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    plain, _ = from_mmdetection(tensors, values, "x.pth")
    values["model"]["type"] = "MaskRCNN"
    values["model"]["roi_head"] |= {"mask_head": {"type": "FCNMaskHead"}, "mask_roi_extractor": {}}
    masks = {
        "roi_head.mask_head.convs.0.conv.weight": torch.zeros(1),
        "roi_head.mask_head.conv_logits.bias": torch.zeros(1),
    }
    with pytest.raises(UserError, match=r"model\.type='MaskRCNN' .*--boxes-only loads its box branch"):
        from_mmdetection(tensors | masks, values, "x.pth")
    caplog.set_level("INFO")
    state, _ = from_mmdetection(tensors | masks, values, "x.pth", boxes_only=True)
    assert all(torch.equal(state[name], plain[name]) for name in plain)
    assert "left out: the 2 tensors of the mask branch" in caplog.text
    with pytest.raises(UserError, match="has no masks, all of it is boxes; leave --boxes-only out"):
        from_mmdetection(tensors, values, "x.pth", boxes_only=True)


def test_version_1_is_refused_by_its_names(tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    old = {name.replace("roi_head.bbox_head.", "bbox_head."): tensor for name, tensor in tensors.items()}
    assert is_mmdetection(old)
    with pytest.raises(UserError, match=r"^x\.pth: weights of mmdetection 1; its boxes are a pixel wider"):
        from_mmdetection(old, values, "x.pth")


def test_what_is_left_over_missing_or_of_another_shape_is_listed(
    tensors: dict[str, Tensor], values: dict[str, Any]
) -> None:
    del tensors["neck.fpn_convs.3.conv.bias"]
    tensors["roi_head.bbox_head.extra.weight"] = torch.zeros(1)
    tensors["rpn_head.rpn_cls.bias"] = torch.zeros(4)
    with pytest.raises(UserError) as error:
        from_mmdetection(tensors, values, "x.pth")
    for name in ("neck.fpn_convs.3.conv.bias", "roi_head.bbox_head.extra.weight", "rpn_head.rpn_cls.bias is [4]"):
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("meta", "names"),
    [
        ({"CLASSES": ("a", "b", "c", "d", "e", "f", "g")}, list("abcdefg")),
        ({"dataset_meta": {"classes": list("tuvwxyz")}, "CLASSES": ("a",)}, list("tuvwxyz")),
        ({"dataset_meta": {"CLASSES": tuple("tuvwxyz")}}, list("tuvwxyz")),
        ({}, [f"n{i}" for i in range(7)]),  # those of the config
        ({"CLASSES": ("a", "b")}, None),  # too few: left out, with a warning
        ({"CLASSES": [1, 2, 3, 4, 5, 6, 7]}, [f"n{i}" for i in range(7)]),
    ],
)
def test_names_of_classes(
    meta: dict[str, Any], names: list[str] | None, tensors: dict[str, Tensor], values: dict[str, Any]
) -> None:
    _, model = from_mmdetection(tensors, values, "x.pth")
    categories = read_class_names(meta, model, "x.pth")
    assert (None if categories is None else categories.names) == names


def test_cocos_names_get_cocos_ids(tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    values["model"]["roi_head"]["bbox_head"]["num_classes"] = 80
    for name, rows in (("fc_cls", 81), ("fc_reg", 320)):
        for kind in ("weight", "bias"):
            old = tensors[f"{BOX}{name}.{kind}"]
            tensors[f"{BOX}{name}.{kind}"] = torch.zeros(rows, *old.shape[1:])
    _, model = from_mmdetection(tensors, values, "x.pth")
    assert read_class_names({"CLASSES": tuple(COCO_CATEGORIES.names)}, model, "x.pth") == COCO_CATEGORIES


# Through `resolve_weights`


def saved(path: Path, content: dict[str, Any]) -> Path:
    torch.save(content, path)
    return path


def test_a_file_without_a_config_asks_for_it(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path = saved(tmp_path / "epoch_12.pth", {"meta": {"epoch": 12}, "state_dict": tensors})
    with pytest.raises(UserError, match=r"epoch_12\.pth: a checkpoint of mmdetection that does not carry its config"):
        resolve_weights(path)
    weights = resolve_weights(path, FOLDER / "config.py")
    assert weights.categories.names == [f"n{i}" for i in range(7)]
    assert weights.provenance == {"converted_from": "mmdetection", "file": "epoch_12.pth"}


def test_a_config_in_the_file_that_calls_something_is_refused(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    text = f"import os\nos.system('touch {tmp_path}/canary')\nmodel = dict()"
    path = saved(tmp_path / "evil.pth", {"meta": {"config": text}, "state_dict": tensors})
    with pytest.raises(UserError, match=r"evil\.pth \(config\): line 1 imports something"):
        resolve_weights(path)
    assert not (tmp_path / "canary").exists()


def test_another_detector_is_refused_by_the_name_in_its_config(tmp_path: Path) -> None:
    tensors = {"backbone.conv1.weight": torch.zeros(1), "bbox_head.retina_cls.weight": torch.zeros(1)}
    path = saved(tmp_path / "retina.pth", {"meta": {"config": "model = dict(type='RetinaNet')"}, "state_dict": tensors})
    with pytest.raises(UserError, match=r"model\.type='RetinaNet' cannot be honoured here"):
        resolve_weights(path)


def test_ours_carry_all_that_moves_a_detection(tmp_path: Path) -> None:
    """What was converted once is read back with the same settings."""
    from detector.config import save_config

    weights = resolve_weights(FOLDER / "checkpoint.pth")
    save_config(weights.config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == weights.config
