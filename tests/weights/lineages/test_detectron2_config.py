"""detectron2's settings become ours; what cannot be honoured is refused by name and value."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detector.config import Config, ViewsConfig, config_from_dict, config_to_dict, differences
from detector.errors import UserError
from detector.weights.lineages.detectron2_config import config_from_detectron2, config_to_detect
from detector.weights.lineages.detectron2_export import settings_from_config
from detector.weights.lineages.detectron2_keys import IGNORED, OF_TRAINING, ONLY, OTHER_BRANCHES, SAME, STRUCTURE
from detector.weights.lineages.detectron2_settings import (
    BASE_RCNN_C4,
    BASE_RCNN_DILATED_C5,
    BASE_RCNN_FPN,
    DEFAULTS,
    Settings,
    read_settings,
)


def value_of(config: Config, key: str) -> Any:
    value: Any = config_to_dict(config)
    for part in key.split("."):
        value = value[part]
    return value


def test_the_flagship_is_our_default() -> None:
    settings = {**BASE_RCNN_C4, "MODEL.RESNETS.DEPTH": 101}
    config = config_from_detectron2(settings, "x")
    assert differences(Config(), config) == [
        "model.num_classes: None → 80",
        "data.keep_empty_images: True → False",
        "data.num_workers: 2 → 4",
        "train.precision: auto → float32",
        "train.evaluate_every: 5000 → 0",
    ]


def test_dumped_configs(references: Path) -> None:
    rgb = config_from_detectron2(read_settings(references / "r50_w3_c3_rgb_stride3x3/config.yaml"), "x")
    assert rgb.input.pixel_mean == (123.675, 116.28, 103.53)
    assert rgb.input.pixel_std == (58.395, 57.12, 57.375)
    assert not rgb.model.backbone.stride_in_1x1
    assert rgb.input.min_size_test == 200
    bgr = config_from_detectron2(read_settings(references / "r50_w6_c6/config.yaml"), "x")
    assert bgr.input.pixel_mean == (123.675, 116.28, 103.53)
    assert bgr.model.backbone.stride_in_1x1
    assert (bgr.model.backbone.depth, bgr.model.backbone.width, bgr.model.num_classes) == (50, 6, 6)
    training = config_from_detectron2(read_settings(references / "train_r50_w6_c6/config_all.yaml"), "x")
    assert (training.train.milestones, training.train.warmup_iterations) == ((6, 8), 4)
    assert training.train.warmup_factor == 0.1
    assert (training.train.batch_size, training.train.reference_batch_size) == (2, 2)
    assert training.model.rpn.batch_size_per_image == 20000


# A value other than the default for every setting that has one meaning here and there.
OTHER = {bool: lambda v: not v, int: lambda v: v + 3, float: lambda v: v + 0.01, list: lambda v: [x + 1 for x in v]}
OTHER_VALUES = {
    "MODEL.RESNETS.DEPTH": 152,
    "INPUT.MIN_SIZE_TRAIN": [400, 500],
    "SOLVER.STEPS": [1, 2],
}


@pytest.mark.parametrize("key", SAME)
def test_every_setting_of_one_meaning_arrives(key: str) -> None:
    value = OTHER_VALUES.get(key, OTHER[type(DEFAULTS[key])](DEFAULTS[key]))  # type: ignore[no-untyped-call]
    config = config_from_detectron2({key: value}, "x")
    assert value_of(config, SAME[key]) == value
    assert value_of(config_from_detectron2({}, "x"), SAME[key]) == DEFAULTS[key]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"INPUT.RANDOM_FLIP": "none"}, {"data.augment.horizontal_flip": 0.0, "data.augment.vertical_flip": 0.0}),
        ({"INPUT.RANDOM_FLIP": "vertical"}, {"data.augment.horizontal_flip": 0.0, "data.augment.vertical_flip": 0.5}),
        ({"INPUT.MIN_SIZE_TRAIN": 640}, {"input.min_size_train": [640]}),
        ({"MODEL.PIXEL_STD": [1.0, 2.0, 3.0]}, {"input.pixel_std": [3.0, 2.0, 1.0]}),
        ({"MODEL.PIXEL_STD": [1.0, 2.0, 3.0], "INPUT.FORMAT": "RGB"}, {"input.pixel_std": [1.0, 2.0, 3.0]}),
        ({"MODEL.RESNETS.NORM": "BN"}, {"model.backbone.norm": "batch"}),
        ({"MODEL.RESNETS.NORM": "SyncBN"}, {"model.backbone.norm": "batch"}),
        ({"MODEL.RESNETS.NORM": "GN"}, {"model.backbone.norm": "group"}),
        ({"MODEL.BACKBONE.FREEZE_AT": 0}, {"model.backbone.freeze_stages": 0}),
        ({"MODEL.BACKBONE.FREEZE_AT": 5}, {"model.backbone.freeze_stages": 4}),
        ({"MODEL.ANCHOR_GENERATOR.SIZES": [[16, 64]]}, {"model.rpn.anchor_sizes": [16.0, 64.0]}),
        ({"MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[1.0]]}, {"model.rpn.anchor_ratios": [1.0]}),
        ({"MODEL.RPN.CONV_DIMS": [256]}, {"model.rpn.channels": 256}),
        ({"MODEL.RPN.CONV_DIMS": [-1]}, {"model.rpn.channels": None, "model.rpn.conv_layers": 1}),
        ({"MODEL.RPN.CONV_DIMS": [-1, -1]}, {"model.rpn.channels": None, "model.rpn.conv_layers": 2}),
        ({"MODEL.RPN.CONV_DIMS": [64, 64]}, {"model.rpn.channels": 64, "model.rpn.conv_layers": 2}),
        (  # ResNeXt-101-32x8d
            {"MODEL.RESNETS.NUM_GROUPS": 32, "MODEL.RESNETS.WIDTH_PER_GROUP": 8},
            {"model.backbone.groups": 32, "model.backbone.width_per_group": 8, "model.backbone.width": 64},
        ),
        (
            {"MODEL.RESNETS.WIDTH_PER_GROUP": 16, "MODEL.RESNETS.RES2_OUT_CHANNELS": 64},
            {"model.backbone.groups": 1, "model.backbone.width_per_group": None, "model.backbone.width": 16},
        ),
        (
            {"MODEL.RPN.IOU_THRESHOLDS": [0.2, 0.8]},
            {"model.rpn.negative_iou": 0.2, "model.rpn.positive_iou": 0.8},
        ),
        ({"MODEL.ROI_HEADS.IOU_THRESHOLDS": [0.6]}, {"model.roi.positive_iou": 0.6}),
        ({"MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlign"}, {"model.roi.pooling": "align", "model.roi.aligned": False}),
        ({"MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIPool"}, {"model.roi.pooling": "pool"}),
        ({"SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR"}, {"train.schedule": "cosine"}),
        ({"SOLVER.AMP.ENABLED": True}, {"train.precision": "bfloat16"}),
        ({"SOLVER.IMS_PER_BATCH": 4}, {"train.batch_size": 4, "train.reference_batch_size": 4}),
        ({"SOLVER.WEIGHT_DECAY": 0.1, "SOLVER.WEIGHT_DECAY_BIAS": 0.1}, {"train.weight_decay": 0.1}),
        ({"SEED": 5}, {"train.seed": 5}),
        ({"DATALOADER.FILTER_EMPTY_ANNOTATIONS": False}, {"data.keep_empty_images": True}),
    ],
)
def test_settings_that_need_more_than_another_name(settings: dict[str, Any], expected: dict[str, Any]) -> None:
    config = config_from_detectron2(settings, "x")
    assert {key: value_of(config, key) for key in expected} == expected


REFUSED = {
    "INPUT.CROP.ENABLED": True,
    "INPUT.FORMAT": "YUV-BT.601",
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": "range",
    "INPUT.RANDOM_FLIP": "diagonal",
    "DATALOADER.SAMPLER_TRAIN": "RepeatFactorTrainingSampler",
    "MODEL.ANCHOR_GENERATOR.NAME": "RotatedAnchorGenerator",
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64]],
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    "MODEL.BACKBONE.FREEZE_AT": "two",
    "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.KEYPOINT_ON": True,
    "MODEL.LOAD_PROPOSALS": True,
    "MODEL.MASK_ON": True,
    "MODEL.META_ARCHITECTURE": "RetinaNet",
    "MODEL.PIXEL_MEAN": [1.0, 2.0, 3.0, 4.0],
    "MODEL.PROPOSAL_GENERATOR.NAME": "RRPN",
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, True, True, True],
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.NORM": "",
    "MODEL.RESNETS.OUT_FEATURES": ["res5"],
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 0,
    "MODEL.RESNETS.RES5_DILATION": 2,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": "giou",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": 2.0,
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": "some",
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlignRotated",
    "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": True,
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": True,
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": True,
    "MODEL.ROI_HEADS.IN_FEATURES": ["res5"],
    "MODEL.ROI_HEADS.IOU_LABELS": [0, -1, 1],
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": [0.3, 0.5],
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT": False,
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": "giou",
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": 2.0,
    "MODEL.RPN.BOUNDARY_THRESH": 0,
    "MODEL.RPN.CONV_DIMS": [-1, 256],
    "MODEL.RPN.HEAD_NAME": "MyRPNHead",
    "MODEL.RPN.IN_FEATURES": ["res5"],
    "MODEL.RPN.IOU_LABELS": [0, 1, 1],
    "MODEL.RPN.IOU_THRESHOLDS": [0.7],
    "MODEL.RPN.LOSS_WEIGHT": 2.0,
    "SEED": "random",
    "SOLVER.BASE_LR_END": 0.001,
    "SOLVER.BIAS_LR_FACTOR": 2.0,
    "SOLVER.CLIP_GRADIENTS.ENABLED": True,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupStepWithFixedGammaLR",
    "SOLVER.NESTEROV": True,
    "SOLVER.WARMUP_METHOD": "constant",
    "SOLVER.WEIGHT_DECAY_BIAS": 0.0,
    "TEST.DETECTIONS_PER_IMAGE": -1,
    "TEST.PRECISE_BN.ENABLED": True,
    "VERSION": 1,
    "MODEL.BIFPN.LEVELS": 4,
    "MODEL.RPN.NMS_TRESH": 0.7,
    "MY_PROJECT": "x",
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_cannot_be_honoured_is_refused_by_name_and_value(key: str) -> None:
    with pytest.raises(UserError) as caught:
        config_from_detectron2({key: REFUSED[key]}, "theirs.yaml")
    assert str(caught.value).startswith("theirs.yaml: settings of detectron2 that cannot be honoured here: ")
    assert f"{key}={REFUSED[key]!r}" in str(caught.value)


def test_all_of_them_are_refused_at_once() -> None:
    refused = {key: value for key, value in REFUSED.items() if key not in STRUCTURE["c4"]}  # these make other kinds
    with pytest.raises(UserError) as caught:
        config_from_detectron2(refused, "theirs.yaml")
    assert [key for key in refused if f"{key}=" not in str(caught.value)] == []


@pytest.mark.parametrize("norm", ["BN", "SyncBN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N"])
def test_norms_that_share_statistics_over_gpus_are_batch_norms_in_testing(norm: str) -> None:
    config = config_from_detectron2({**BASE_RCNN_FPN, "MODEL.RESNETS.NORM": norm, "MODEL.FPN.NORM": norm}, "x")
    assert (config.model.backbone.norm, config.model.fpn.norm) == ("batch", "batch")


# Numbers that training here cannot have, of settings that are no problem in themselves.
IMPOSSIBLE = {
    "DATALOADER.NUM_WORKERS": -1,
    "INPUT.MAX_SIZE_TRAIN": 0,
    "INPUT.MIN_SIZE_TRAIN": [],
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": -1.0,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 0,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 2.0,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 0,
    "MODEL.RPN.POSITIVE_FRACTION": "half",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 0,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": -1,
    "MODEL.RPN.SMOOTH_L1_BETA": -1.0,
    "SOLVER.MAX_ITER": 0,
    "SOLVER.STEPS": [20, 10],
    "TEST.EVAL_PERIOD": -1,
}
OLD = {"MODEL.ROI_HEADS.IGNORE_THRESHOLD": 0.3, "MODEL.RPN.IGNORE_THRESHOLD": 0.3}


@pytest.mark.parametrize("key", OF_TRAINING)
def test_settings_of_training_alone_cannot_prevent_detection(key: str, caplog: pytest.LogCaptureFixture) -> None:
    given = {name: v for table in (REFUSED, IMPOSSIBLE, OLD) for name, v in table.items() if name.startswith(key)}
    assert given
    for name, value in given.items():
        caplog.clear()
        settings = {**BASE_RCNN_C4, "MODEL.RESNETS.DEPTH": 101, name: value}
        with pytest.raises(UserError):
            config_from_detectron2(settings, "theirs.yaml")
        config = config_to_detect(settings, "theirs.yaml")
        expected = config_from_detectron2({**BASE_RCNN_C4, "MODEL.RESNETS.DEPTH": 101}, "x")
        assert (config.model, config.input.min_size_test) == (expected.model, expected.input.min_size_test)
        (line,) = caplog.messages
        assert line.startswith("theirs.yaml: without effect, since it matters in training alone: ")
        assert (f"{name}={value!r}" in line) != (name in IMPOSSIBLE)  # of the latter, our setting and its limit


def test_what_matters_in_detection_is_refused_beside_what_does_not() -> None:
    for training in ({"SOLVER.NESTEROV": True}, {"SOLVER.MAX_ITER": 0}):
        with pytest.raises(UserError, match=r"honoured here: MODEL\.PROPOSAL_GENERATOR\.NAME='RRPN' .*\)\.$") as caught:
            config_to_detect({**training, "MODEL.PROPOSAL_GENERATOR.NAME": "RRPN"}, "x")
        assert "SOLVER" not in str(caught.value)
    assert config_to_detect({"SOLVER.GAMMA": 0.5}, "x").train.gamma == 0.5  # what can be honoured is


def test_every_switch_is_tested() -> None:
    switches = (*ONLY, *STRUCTURE["c4"], *OTHER_BRANCHES)
    assert [key for key in switches if key not in REFUSED and not key.endswith("IGNORE_THRESHOLD")] == []


# Other kinds of model


def test_the_base_configs_of_other_kinds_give_the_defaults_of_the_kind() -> None:
    """Whoever sets `model.kind` alone has the lineage's numbers."""
    bases: dict[str, Settings] = {"fpn": BASE_RCNN_FPN, "dc5": BASE_RCNN_DILATED_C5}
    for kind, base in bases.items():
        theirs = config_from_detectron2(base, "x")
        ours = config_from_dict({"model": {"kind": kind, "num_classes": 80, "backbone": {"depth": 50}}})
        assert [d for d in differences(ours, theirs) if d.startswith(("model.", "input."))] == []


@pytest.mark.parametrize(
    ("base", "key", "value"),
    [
        (BASE_RCNN_FPN, "MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone"),
        (BASE_RCNN_FPN, "MODEL.FPN.IN_FEATURES", ["res3", "res4", "res5"]),
        (BASE_RCNN_FPN, "MODEL.FPN.FUSE_TYPE", "avg"),
        (BASE_RCNN_FPN, "MODEL.FPN.NORM", "LN"),
        (BASE_RCNN_FPN, "MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3", "p4", "p5", "p6"]),
        (BASE_RCNN_FPN, "MODEL.ROI_HEADS.NAME", "CascadeROIHeads"),
        (BASE_RCNN_FPN, "MODEL.ROI_BOX_HEAD.NAME", "MyHead"),
        (BASE_RCNN_FPN, "MODEL.ROI_BOX_HEAD.NORM", "LN"),
        (BASE_RCNN_FPN, "MODEL.RPN.IN_FEATURES", ["p3", "p4", "p5", "p6"]),
        (BASE_RCNN_FPN, "MODEL.ANCHOR_GENERATOR.SIZES", [[32], [64], [128], [256]]),
        (BASE_RCNN_FPN, "MODEL.ANCHOR_GENERATOR.SIZES", [[32], [64], [128], [256], [512, 640]]),
        (BASE_RCNN_FPN, "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", [[1.0], [1.0], [1.0], [1.0], [2.0]]),
        (BASE_RCNN_DILATED_C5, "MODEL.RESNETS.RES5_DILATION", 1),
        (BASE_RCNN_DILATED_C5, "MODEL.RESNETS.DEPTH", 18),
    ],
)
def test_what_cannot_be_honoured_of_other_kinds(base: Settings, key: str, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        config_from_detectron2({**base, key: value}, "theirs.yaml")
    assert f"{key}={value!r}" in str(caught.value)


def test_settings_of_a_pyramid() -> None:
    settings = {
        **BASE_RCNN_FPN,
        "MODEL.ANCHOR_GENERATOR.SIZES": [[16, 20]],  # one list is for every level
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[1.0, 2.0]] * 5,
        "MODEL.FPN.NORM": "GN",
        "MODEL.ROI_BOX_HEAD.NUM_CONV": 4,
        "MODEL.ROI_BOX_HEAD.NUM_FC": 1,
        "MODEL.ROI_BOX_HEAD.NORM": "GN",
        "MODEL.RESNETS.DEPTH": 18,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    }
    model = config_from_detectron2(settings, "x").model
    assert model.rpn.anchor_sizes == (16.0, 20.0) * 5
    assert model.rpn.anchor_ratios == (1.0, 2.0)
    assert (model.fpn.norm, model.roi.conv_norm, model.roi.conv_layers, model.roi.fc_layers) == ("group", "group", 4, 1)
    assert (model.backbone.depth, model.backbone.width) == (18, 64)


@pytest.mark.parametrize("key", OTHER_BRANCHES)
def test_a_branch_beside_the_boxes_is_refused_with_the_remedy(key: str) -> None:
    settings = {**BASE_RCNN_FPN, key: True}
    with pytest.raises(UserError, match=rf"{key}=True \(the (mask|keypoint) head: --boxes-only leaves it out"):
        config_from_detectron2(settings, "theirs.yaml")
    assert config_from_detectron2(settings, "x", boxes_only=True) == config_from_detectron2(BASE_RCNN_FPN, "x")


def test_what_does_not_matter_is_ignored() -> None:
    settings = {prefix + ("X" if prefix.endswith((".", "_")) else ""): "anything" for prefix in IGNORED}
    assert config_from_detectron2(settings, "x") == config_from_detectron2({}, "x")


def test_values_of_the_wrong_type_name_the_setting() -> None:
    with pytest.raises(UserError, match=r"model\.rpn\.nms_threshold=high .*expected a number"):
        config_from_detectron2({"MODEL.RPN.NMS_THRESH": "high"}, "x")


def test_huge_values_are_named_shortly() -> None:
    with pytest.raises(UserError) as caught:
        config_from_detectron2({"MODEL.META_ARCHITECTURE": "x" * 10_000, "MY_PROJECT": list(range(10_000))}, "x")
    assert len(str(caught.value)) < 800


def test_test_time_augmentation_is_taken_over_where_it_is_switched_on() -> None:
    sizes = {"TEST.AUG.MIN_SIZES": [400, 600], "TEST.AUG.MAX_SIZE": 900, "TEST.AUG.FLIP": False}
    assert config_from_detectron2({**sizes, "TEST.AUG.ENABLED": False}, "x") == config_from_detectron2({}, "x")
    config = config_from_detectron2({**sizes, "TEST.AUG.ENABLED": True}, "x")
    views = config.model.detection.augment
    assert views == ViewsConfig(form="detectron2", sizes=(400, 600), max_size=900, horizontal_flip=False)
    assert config_from_detectron2(settings_from_config(config), "x") == config
    for augment in (ViewsConfig(form="average"), ViewsConfig(form="union")):
        detection = replace(config.model.detection, augment=augment)
        with pytest.raises(UserError, match=f"no counterpart for model.detection.augment.form={augment.form}"):
            settings_from_config(replace(config, model=replace(config.model, detection=detection)))


@pytest.mark.parametrize(("key", "value"), [("vertical_flip", True), ("resize_first", False)])
def test_augmentation_that_detectron2_does_not_have_is_not_lost_on_the_way_back(key: str, value: bool) -> None:
    config = config_from_detectron2({"TEST.AUG.ENABLED": True}, "x")
    detection = replace(config.model.detection, augment=replace(config.model.detection.augment, **{key: value}))
    with pytest.raises(UserError, match=rf"no counterpart for model\.detection\.augment\.{key}={value}\."):
        settings_from_config(replace(config, model=replace(config.model, detection=detection)))
