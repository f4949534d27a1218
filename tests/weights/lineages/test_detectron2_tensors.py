"""detectron2 checkpoints: names, channels and the background row, there and back, bit for bit."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from detectron2_cases import checkpoints, folder_id, folders_with
from hostile import torch_file
from tiny_models import tiny_config
from torch import Tensor

from detector.categories import CategoryMap
from detector.config import BackboneConfig, Config, RPNConfig, differences
from detector.errors import UserError
from detector.model.build import build_model
from detector.weights.lineages.detectron2_export import (
    lost_in_training,
    settings_from_config,
    to_detectron2,
    write_detectron2,
)
from detector.weights.lineages.detectron2_keys import CLASS_AGNOSTIC
from detector.weights.lineages.detectron2_settings import read_settings
from detector.weights.lineages.detectron2_tensors import from_detectron2, is_detectron2
from detector.weights.resolve import resolve_weights
from detector.weights.state_layout import model_shapes
from detector.weights.untrusted.foreign_file import read_foreign

FOLDERS = folders_with("config.yaml", "model.*")


def read(folder: Path) -> dict[str, Tensor]:
    """Of the `.pth` where there are two files."""
    return read_foreign(checkpoints(folder)[-1]).tensors


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def random_state(config: Config) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = model_shapes(config)
    return {
        name: torch.tensor(5) if name.endswith("num_batches_tracked") else torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize("folder", FOLDERS, ids=folder_id)
def test_checkpoints_load_strictly(folder: Path) -> None:
    settings = read_settings(folder / "config.yaml")
    states = []
    for checkpoint in checkpoints(folder):
        state, config = from_detectron2(read_foreign(checkpoint).tensors, settings, folder.name)
        build_model(config).load_state_dict(state)
        states.append(state)
    assert all(same(state, states[0]) for state in states)


def test_channels_and_rows(references: Path) -> None:
    folder = references / "r50_w6_c6"
    tensors = read(folder)
    state, _ = from_detectron2(tensors, read_settings(folder / "config.yaml"), "x")
    theirs = tensors["backbone.stem.conv1.weight"]
    assert torch.equal(state["backbone.conv1.weight"][:, 0], theirs[:, 2])  # red
    scores = tensors["roi_heads.box_predictor.cls_score.weight"]
    assert torch.equal(state["roi_head.cls_score.weight"][0], scores[-1])  # background
    assert torch.equal(state["roi_head.cls_score.weight"][1:], scores[:-1])
    assert torch.equal(state["roi_head.cls_score.bias"][0], tensors["roi_heads.box_predictor.cls_score.bias"][-1])
    assert torch.equal(state["roi_head.bbox_pred.weight"], tensors["roi_heads.box_predictor.bbox_pred.weight"])
    assert torch.equal(state["rpn.anchor_deltas.bias"], tensors["proposal_generator.rpn_head.anchor_deltas.bias"])
    assert torch.equal(state["backbone.norm1.running_var"], tensors["backbone.stem.conv1.norm.running_var"])
    assert torch.equal(state["roi_head.conv5_x.0.shortcut.norm.bias"], tensors["roi_heads.res5.0.shortcut.norm.bias"])


def test_one_box_for_all_classes_becomes_one_of_each(references: Path) -> None:
    folder = references / "r50_w6_c6"
    tensors, settings = read(folder), read_settings(folder / "config.yaml") | {CLASS_AGNOSTIC: True}
    with pytest.raises(
        UserError, match=r"CLS_AGNOSTIC_BBOX_REG=True, but .*bbox_pred\.weight has 24 rows and not 4\.$"
    ):
        from_detectron2(tensors, settings, "x")
    names = [f"roi_heads.box_predictor.bbox_pred.{kind}" for kind in ("weight", "bias")]
    state, config = from_detectron2(tensors | {name: tensors[name][4:8] for name in names}, settings, "x")
    build_model(config).load_state_dict(state)
    for name, kind in zip(names, ("weight", "bias"), strict=True):
        rows = state[f"roi_head.bbox_pred.{kind}"].unflatten(0, (6, 4))
        assert all(torch.equal(one, tensors[name][4:8]) for one in rows)


def test_rgb_checkpoints_keep_their_channels(references: Path) -> None:
    tensors = read(references / "r50_w6_c6")
    rgb = read_settings(references / "r50_w3_c3_rgb_stride3x3/config.yaml")["INPUT.FORMAT"]
    settings = read_settings(references / "r50_w6_c6/config.yaml") | {"INPUT.FORMAT": rgb}
    assert rgb == "RGB"
    state, _ = from_detectron2(tensors, settings, "x")
    assert torch.equal(state["backbone.conv1.weight"], tensors["backbone.stem.conv1.weight"])


def test_constants_of_old_files_are_dropped_by_name(shared: Path) -> None:
    folder = shared / "fixtures/detectron2/r101_w3_c80"
    tensors = read_foreign(folder / "model.pkl").tensors
    assert "proposal_generator.anchor_generator.cell_anchors.0" in tensors
    settings = read_settings(folder / "config.yaml")
    from_detectron2({**tensors, "pixel_mean": torch.ones(3, 1, 1), "pixel_std": torch.ones(3, 1, 1)}, settings, "x")
    with pytest.raises(UserError, match=r"left over \(\d\): proposal_generator\.anchor_generator\.cell_anchors\.1"):
        from_detectron2({**tensors, "proposal_generator.anchor_generator.cell_anchors.1": torch.ones(1)}, settings, "x")


def test_remainders_gaps_and_shapes_are_all_listed(references: Path) -> None:
    folder = references / "r50_w6_c6"
    tensors = read(folder)
    del tensors["backbone.res3.1.conv2.norm.running_var"], tensors["roi_heads.box_predictor.cls_score.bias"]
    tensors["roi_heads.mask_head.predictor.weight"] = torch.ones(1)
    tensors["backbone.stem.conv1.weight"] = torch.ones(6, 4, 7, 7)
    with pytest.raises(UserError) as caught:
        from_detectron2(tensors, read_settings(folder / "config.yaml"), "x")
    text = str(caught.value)
    assert "left over (1): roi_heads.mask_head.predictor.weight" in text
    assert "missing (2): backbone.res3.1.conv2.norm.running_var, roi_heads.box_predictor.cls_score.bias" in text
    assert "backbone.stem.conv1.weight is [6, 4, 7, 7] and should be [6, 3, 7, 7]" in text


def test_norms_without_any_statistics_have_mean_0_and_variance_1(references: Path) -> None:
    folder = references / "r50_w6_c6"
    tensors = {name: tensor for name, tensor in read(folder).items() if "running" not in name}
    state, _ = from_detectron2(tensors, read_settings(folder / "config.yaml"), "x")
    assert state["backbone.norm1.running_mean"].tolist() == [0.0] * 6
    assert state["backbone.norm1.running_var"].tolist() == [1.0] * 6


def test_kind_is_known_by_the_names() -> None:
    assert is_detectron2({"proposal_generator.rpn_head.conv.weight": torch.ones(1)})
    assert not is_detectron2({"rpn.conv.weight": torch.ones(1)})


@pytest.mark.parametrize("folder", FOLDERS, ids=folder_id)
def test_theirs_to_ours_to_theirs(folder: Path) -> None:
    tensors, settings = read(folder), read_settings(folder / "config.yaml")
    state, config = from_detectron2(tensors, settings, folder.name)
    categories = CategoryMap.from_names([str(i) for i in range(config.model.num_classes or 0)])
    back, _ = to_detectron2(state, config, categories)
    if settings["INPUT.FORMAT"] == "RGB":  # written as BGR
        back["backbone.stem.conv1.weight"] = back["backbone.stem.conv1.weight"].flip(1)
    assert same(back, tensors)
    written = settings_from_config(config)
    differing = {key for key in written if written[key] != settings[key]}
    assert differing <= {"SEED", "INPUT.FORMAT", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"}


CONFIGS = [
    tiny_config(backbone={"depth": 50}),
    tiny_config(backbone={"depth": 50, "norm": "batch"}, roi={"pooling": "pool"}),
    tiny_config(backbone={"depth": 50, "norm": "group"}, rpn={"channels": 24}),
    tiny_config(backbone={"depth": 50, "stride_in_1x1": False}, roi={"aligned": False, "sampling_ratio": 2}),
    tiny_config(kind="fpn", backbone={"depth": 50}),
    tiny_config(kind="fpn"),  # basic blocks
    tiny_config(
        kind="fpn",
        backbone={"depth": 50, "groups": 4, "width_per_group": 3, "stride_in_1x1": False, "freeze_stages": 5},
        rpn={"conv_layers": 2, "anchor_sizes": tuple(float(16 + i) for i in range(10))},
        roi={"conv_layers": 2, "conv_norm": "group", "conv_channels": 12, "fc_layers": 1},
        fpn={"channels": 24, "norm": "batch"},
    ),
    tiny_config(kind="dc5", backbone={"depth": 50, "norm": "batch"}, roi={"fc_channels": 20}),
]


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
@pytest.mark.parametrize("config", CONFIGS)
def test_ours_to_theirs_to_ours(tmp_path: Path, config: Config, suffix: str) -> None:
    state = random_state(config)
    categories = CategoryMap.from_coco([{"id": 9, "name": "cat"}, {"id": 4, "name": "dog"}, {"id": 70, "name": "x"}])
    config_path, lost = write_detectron2(tmp_path / f"out{suffix}", state, config, categories)
    assert lost == []
    back = resolve_weights(tmp_path / f"out{suffix}", config_path)
    assert same(back.state_dict, state)
    assert back.categories == categories
    expected = replace(config, train=replace(config.train, precision="float32"))
    assert differences(expected, back.config) == []


def test_written_pickle_is_one_that_detectron2_takes_for_its_own(tmp_path: Path) -> None:
    categories = CategoryMap.from_names(["a", "b", "c"])
    write_detectron2(tmp_path / "m.pkl", random_state(CONFIGS[0]), CONFIGS[0], categories)
    content = pickle.loads((tmp_path / "m.pkl").read_bytes())
    assert {"model", "__author__"} <= content.keys()
    assert all(type(array).__name__ == "ndarray" for array in content["model"].values())


def test_what_detectron2_cannot_say_is_refused_or_reported() -> None:
    base = CONFIGS[0]
    model = base.model
    odd = replace(
        base,
        model=replace(
            model,
            backbone=BackboneConfig(depth=18, norm="frozen_batch", conv5_norm="group"),
            rpn=RPNConfig(anchor_rounding=True),
            detection=replace(model.detection, min_size=0.01),
        ),
        input=replace(base.input, resize="torchvision", pad_to_multiple=32),
    )
    with pytest.raises(UserError) as caught:
        settings_from_config(odd)
    for text in (
        "input.pad_to_multiple=32",
        "input.resize=torchvision",
        "model.backbone.conv5_norm=group",
        "model.backbone.depth=18",
        "model.detection.min_size=0.01",
        "model.rpn.anchor_rounding=True",
    ):
        assert text in str(caught.value)
    trained = replace(
        base,
        train=replace(base.train, ema_decay=0.99),
        data=replace(base.data, augment=replace(base.data.augment, crop=0.5, horizontal_flip=0.3)),
    )
    assert lost_in_training(trained) == [
        "data.augment.crop=0.5",
        "train.ema_decay=0.99",
        "data.augment.horizontal_flip=0.3",
        "data.augment.vertical_flip=0.0",
    ]


def test_what_detectron2_cannot_say_of_a_pyramid_is_refused() -> None:
    config = tiny_config(
        kind="fpn",
        backbone={"depth": 50, "norm_eps": 0.0},
        rpn={"anchor_strides": "measured", "rank_by": "sigmoid", "limit_shrinking": True},
        roi={"level_rule": "torchvision"},
        detection={"nms_frame": "original"},
        inputs={"pad_to_multiple": 1},
    )
    with pytest.raises(UserError) as caught:
        settings_from_config(config)
    for text in (
        "input.pad_to_multiple=1",
        "model.backbone.norm_eps=0.0",
        "model.detection.nms_frame=original",
        "model.roi.level_rule=torchvision",
        "model.rpn.anchor_strides=measured",
        "model.rpn.limit_shrinking=True",
        "model.rpn.rank_by=sigmoid",
    ):
        assert text in str(caught.value)


MASKS = {"roi_heads.mask_head.deconv.weight": torch.ones(2), "roi_heads.mask_head.predictor.bias": torch.ones(1)}
KEYPOINTS = {"roi_heads.keypoint_head.conv_fcn1.weight": torch.ones(1)}


def test_the_box_branch_of_a_mask_and_keypoint_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = tiny_config(kind="fpn", backbone={"depth": 50})
    state, categories = random_state(config), CategoryMap.from_names(["a", "b", "c"])
    tensors, text = to_detectron2(state, config, categories)
    path, config_path = tmp_path / "mask.pth", tmp_path / "mask.yaml"
    path.write_bytes(torch_file({"model": tensors | MASKS | KEYPOINTS}))
    config_path.write_text(text.replace("MODEL:\n", "MODEL:\n  MASK_ON: true\n  KEYPOINT_ON: true\n", 1))
    with pytest.raises(UserError, match=r"MASK_ON=True \(the mask head: --boxes-only"):
        resolve_weights(path, config_path)
    with caplog.at_level("INFO"):
        back = resolve_weights(path, config_path, boxes_only=True)
    assert same(back.state_dict, state)
    assert "left out: 2 tensors of the mask head, 1 tensors of the keypoint head" in caplog.text

    path.write_bytes(torch_file({"model": tensors}))
    config_path.write_text(text)
    with pytest.raises(UserError, match="all of it is boxes; leave --boxes-only out"):
        resolve_weights(path, config_path, boxes_only=True)


def test_learning_rate_is_written_for_the_batch_in_use() -> None:
    config = replace(CONFIGS[0], train=replace(CONFIGS[0].train, batch_size=4, reference_batch_size=16))
    settings = settings_from_config(config)
    assert (settings["SOLVER.IMS_PER_BATCH"], settings["SOLVER.BASE_LR"]) == (4, 0.005)


def test_prefix_of_data_parallel_training(references: Path, tmp_path: Path) -> None:
    folder = references / "r50_w6_c6"
    tensors = read(folder)
    path = tmp_path / "model.pth"
    path.write_bytes(torch_file({"model": {f"module.{n}": t for n, t in tensors.items()}, "iteration": 9}))
    expected = resolve_weights(folder / "model.pth", folder / "config.yaml").state_dict
    assert same(resolve_weights(path, folder / "config.yaml").state_dict, expected)
