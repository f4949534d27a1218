"""What mmdetection's configs say becomes settings of ours, or is refused by name; both versions, all kinds of model."""

import copy
from typing import Any

import pytest

from detector.errors import UserError
from detector.weights.lineages.mmdetection_config import MMDetectionModel, config_from_mmdetection

CODER = {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": [1.0] * 4}
ROI_CODER = CODER | {"target_stds": [0.1, 0.1, 0.2, 0.2]}
BOX_LOSS = {"type": "L1Loss", "loss_weight": 1.0}


def fpn() -> dict[str, Any]:
    """configs/faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py of version 3, as it is dumped, and shortened."""
    return {
        "model": {
            "type": "FasterRCNN",
            "data_preprocessor": {
                "type": "DetDataPreprocessor",
                "mean": [123.675, 116.28, 103.53],
                "std": [58.395, 57.12, 57.375],
                "bgr_to_rgb": True,
                "pad_size_divisor": 32,
            },
            "backbone": {
                "type": "ResNet",
                "depth": 50,
                "num_stages": 4,
                "out_indices": (0, 1, 2, 3),
                "frozen_stages": 1,
                "norm_cfg": {"type": "BN", "requires_grad": True},
                "norm_eval": True,
                "style": "pytorch",
                "init_cfg": {"type": "Pretrained", "checkpoint": "torchvision://resnet50"},
            },
            "neck": {"type": "FPN", "in_channels": [256, 512, 1024, 2048], "out_channels": 256, "num_outs": 5},
            "rpn_head": {
                "type": "RPNHead",
                "in_channels": 256,
                "feat_channels": 256,
                "anchor_generator": {
                    "type": "AnchorGenerator",
                    "scales": [8],
                    "ratios": [0.5, 1.0, 2.0],
                    "strides": [4, 8, 16, 32, 64],
                },
                "bbox_coder": CODER,
                "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
                "loss_bbox": BOX_LOSS,
            },
            "roi_head": {
                "type": "StandardRoIHead",
                "bbox_roi_extractor": {
                    "type": "SingleRoIExtractor",
                    "roi_layer": {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 0},
                    "out_channels": 256,
                    "featmap_strides": [4, 8, 16, 32],
                },
                "bbox_head": {
                    "type": "Shared2FCBBoxHead",
                    "in_channels": 256,
                    "fc_out_channels": 1024,
                    "roi_feat_size": 7,
                    "num_classes": 80,
                    "bbox_coder": ROI_CODER,
                    "reg_class_agnostic": False,
                    "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
                    "loss_bbox": BOX_LOSS,
                },
            },
            "train_cfg": {
                "rpn": {
                    "assigner": {"type": "MaxIoUAssigner", "pos_iou_thr": 0.7, "neg_iou_thr": 0.3},
                    "sampler": {"type": "RandomSampler", "num": 256, "pos_fraction": 0.5},
                },
                "rpn_proposal": {"nms_pre": 2000, "max_per_img": 1000},
                "rcnn": {
                    "assigner": {"type": "MaxIoUAssigner", "pos_iou_thr": 0.5},
                    "sampler": {"type": "RandomSampler", "num": 512, "pos_fraction": 0.25},
                },
            },
            "test_cfg": {
                "rpn": {
                    "nms_pre": 1000,
                    "max_per_img": 1000,
                    "nms": {"type": "nms", "iou_threshold": 0.7},
                    "min_bbox_size": 0,
                },
                "rcnn": {"score_thr": 0.05, "nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": 100},
            },
        },
        "test_cfg": {"type": "TestLoop"},
        "test_dataloader": {
            "dataset": {
                "metainfo": {"classes": ("a", "b")},
                "pipeline": [
                    {"type": "LoadImageFromFile", "backend_args": None},
                    {"type": "Resize", "scale": (1333, 800), "keep_ratio": True},
                    {"type": "LoadAnnotations", "with_bbox": True},
                    {"type": "PackDetInputs", "meta_keys": ("img_id",)},
                ],
            }
        },
    }


def version_2() -> dict[str, Any]:
    """The same as version 2 has it."""
    values = fpn()
    preprocessor = values["model"].pop("data_preprocessor")
    del values["test_dataloader"], values["test_cfg"]
    normalize = {"type": "Normalize", "mean": preprocessor["mean"], "std": preprocessor["std"], "to_rgb": True}
    steps = [
        {"type": "Resize", "keep_ratio": True},
        {"type": "RandomFlip"},
        normalize,
        {"type": "Pad", "size_divisor": 32},
        {"type": "ImageToTensor", "keys": ["img"]},
        {"type": "Collect", "keys": ["img"]},
    ]
    aug = {"type": "MultiScaleFlipAug", "img_scale": (1333, 800), "flip": False, "transforms": steps}
    values["data"] = {"test": {"classes": ["a", "b"], "pipeline": [{"type": "LoadImageFromFile"}, aug]}}
    return values


def read(values: dict[str, Any], **changes: Any) -> MMDetectionModel:
    """Changes are given by dotted paths, with `__` for a dot; a value of `...` takes the key away."""
    values = copy.deepcopy(values)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place: Any = values
        for key in parents:
            place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return config_from_mmdetection(values, "config.py")


PIPELINE = "test_dataloader__dataset__pipeline"
BACKBONE, NECK, RPN, ROI = "model__backbone", "model__neck", "model__rpn_head", "model__roi_head"
BOX = f"{ROI}__bbox_head"


def test_a_pyramid() -> None:
    model = read(fpn())
    config = model.config
    assert model.is_rgb
    assert model.class_names == ("a", "b")
    assert config.model.kind == "fpn"
    assert config.model.num_classes == 80
    assert not config.model.backbone.stride_in_1x1
    assert config.model.backbone.freeze_stages == 2
    assert config.model.rpn.anchor_sizes == (32, 64, 128, 256, 512)
    assert (config.model.rpn.pre_nms_top_n_test, config.model.rpn.post_nms_top_n_test) == (1000, 1000)
    assert (config.model.rpn.pre_nms_top_n_train, config.model.rpn.post_nms_top_n_train) == (2000, 1000)
    assert config.model.rpn.anchor_order == "size"  # one size a level: there is no other order
    assert config.model.rpn.limit_shrinking
    assert config.model.rpn.rank_by == "sigmoid"
    assert config.model.roi.limit_shrinking
    assert config.model.roi.level_rule == "mmdetection"
    assert config.model.roi.delta_weights == (10, 10, 5, 5)
    assert config.model.detection.nms_frame == "original"
    assert (config.input.min_size_test, config.input.max_size_test) == (800, 1333)
    assert (config.input.resize, config.input.pad_to_multiple) == ("cv2", 32)
    assert config.input.pixel_mean == (123.675, 116.28, 103.53)


def test_version_2_says_the_same() -> None:
    assert read(version_2()) == read(fpn())


def test_version_2_0_has_its_own_words() -> None:
    values = version_2()
    test = values["model"].pop("test_cfg")
    test["rpn"] = {
        "nms_across_levels": False,
        "nms_pre": 1000,
        "nms_post": 1000,
        "max_num": 1000,
        "nms_thr": 0.7,
        "min_bbox_size": 0,
    }
    values["test_cfg"], values["train_cfg"] = test, values["model"].pop("train_cfg")
    layer = {"type": "RoIAlign", "out_size": 7, "sample_num": 0}
    values["model"]["roi_head"]["bbox_roi_extractor"]["roi_layer"] = layer
    values["model"]["pretrained"] = "torchvision://resnet50"
    assert read(values) == read(fpn())


def test_bgr_and_caffe_style() -> None:
    model = read(
        fpn(),
        model__data_preprocessor={
            "type": "DetDataPreprocessor",
            "mean": [103.53, 116.28, 123.675],
            "std": [57.375, 57.12, 58.395],
            "bgr_to_rgb": False,
        },
        model__backbone__style="caffe",
    )
    assert not model.is_rgb
    assert model.config.input.pixel_mean == (123.675, 116.28, 103.53)
    assert model.config.input.pixel_std == (58.395, 57.12, 57.375)
    assert model.config.input.pad_to_multiple == 1
    assert model.config.model.backbone.stride_in_1x1


def test_x101() -> None:
    model = read(
        fpn(),
        model__backbone__type="mmdet.models.backbones.resnext.ResNeXt",
        model__backbone__depth=101,
        model__backbone__groups=32,
        model__backbone__base_width=8,
    )
    backbone = model.config.model.backbone
    assert (backbone.depth, backbone.groups, backbone.width_per_group) == (101, 32, 8)


def test_octaves_and_scales_of_every_level() -> None:
    generator = {
        "type": "AnchorGenerator",
        "octave_base_scale": 4,
        "scales_per_octave": 2,
        "ratios": [1.0],
        "strides": [4, 8, 16, 32, 64],
    }
    rpn = read(fpn(), model__rpn_head__anchor_generator=generator).config.model.rpn
    sizes = rpn.anchor_sizes
    assert rpn.anchor_order == "ratio"
    assert sizes[:4] == pytest.approx((16, 16 * 2**0.5, 32, 32 * 2**0.5))
    assert len(sizes) == 10


def test_losses_that_matter_in_training_alone_are_taken() -> None:
    model = read(
        fpn(),
        **{f"{BOX}__loss_bbox": {"type": "GIoULoss", "loss_weight": 10.0}, f"{BOX}__reg_decoded_bbox": True},
        model__rpn_head__loss_bbox={"type": "SmoothL1Loss", "beta": 1 / 9, "loss_weight": 1.0},
        model__train_cfg__rcnn__sampler={"type": "OHEMSampler", "num": 512},
    )
    assert model.config.model.roi.smooth_l1_beta == 0
    assert model.config.model.rpn.smooth_l1_beta == 1 / 9


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("model__type", "CascadeRCNN", "model.type='CascadeRCNN'"),
        ("model__type", "RetinaNet", "model.type='RetinaNet'"),
        ("model__type", "MaskRCNN", "--boxes-only loads its box branch"),
        (f"{BACKBONE}__dcn", {"type": "DCN", "deform_groups": 1}, "model.backbone.dcn="),
        (f"{BACKBONE}__plugins", [{"cfg": {"type": "ContextBlock"}}], "model.backbone.plugins="),
        (f"{BACKBONE}__norm_cfg", {"type": "GN", "num_groups": 32}, "model.backbone.norm_cfg.type='GN'"),
        (f"{BACKBONE}__type", "Res2Net", "model.backbone.type='Res2Net'"),
        (f"{BACKBONE}__deep_stem", True, "model.backbone.deep_stem=True"),
        (f"{BACKBONE}__avg_down", True, "model.backbone.avg_down=True"),
        (f"{BACKBONE}__style", "other", "model.backbone.style='other'"),
        (f"{BACKBONE}__strides", (1, 2, 2, 1), "model.backbone.strides="),
        (f"{BACKBONE}__new_word", 1, "model.backbone.new_word=1 (unknown here)"),
        (f"{NECK}__type", "PAFPN", "model.neck.type='PAFPN'"),
        (f"{NECK}__add_extra_convs", "on_input", "model.neck.add_extra_convs='on_input'"),
        (f"{NECK}__norm_cfg", {"type": "GN"}, "model.neck.norm_cfg="),
        (f"{NECK}__num_outs", 4, "model.neck.num_outs=4"),
        (f"{RPN}__type", "GARPNHead", "model.rpn_head.type='GARPNHead'"),
        (f"{RPN}__num_convs", 2, "model.rpn_head.num_convs=2"),
        (f"{RPN}__loss_cls", {"type": "CrossEntropyLoss", "use_sigmoid": False}, "rpn_head.loss_cls.use_sigmoid=False"),
        (f"{RPN}__bbox_coder__type", "LegacyDeltaXYWHBBoxCoder", "bbox_coder.type='LegacyDeltaXYWHBBoxCoder'"),
        (f"{RPN}__anchor_generator__type", "LegacyAnchorGenerator", "anchor_generator.type='LegacyAnchorGenerator'"),
        (f"{RPN}__anchor_generator__strides", [8, 16, 32, 64, 128], "anchor_generator.strides="),
        (f"{ROI}__type", "CascadeRoIHead", "model.roi_head.type='CascadeRoIHead'"),
        (f"{ROI}__mask_head", {"type": "FCNMaskHead"}, "model.roi_head.mask_head="),
        (f"{ROI}__bbox_roi_extractor__type", "GenericRoIExtractor", "bbox_roi_extractor.type='GenericRoIExtractor'"),
        (f"{ROI}__bbox_roi_extractor__roi_layer__type", "DeformRoIPoolPack", "roi_layer.type='DeformRoIPoolPack'"),
        (f"{BOX}__type", "DoubleConvFCBBoxHead", "model.roi_head.bbox_head.type='DoubleConvFCBBoxHead'"),
        (f"{BOX}__type", "Shared4Conv1FCBBoxHead", "model.roi_head.bbox_head.type='Shared4Conv1FCBBoxHead'"),
        (f"{BOX}__norm_cfg", {"type": "GN", "num_groups": 32}, "model.roi_head.bbox_head.norm_cfg="),
        (f"{BOX}__loss_cls", {"type": "SeesawLoss"}, "bbox_head.loss_cls.type='SeesawLoss'"),
        (f"{BOX}__loss_cls", {"type": "CrossEntropyLoss", "use_sigmoid": True}, "bbox_head.loss_cls.use_sigmoid=True"),
        ("model__test_cfg__rcnn__nms", {"type": "soft_nms", "iou_threshold": 0.5}, "rcnn.nms.type='soft_nms'"),
        ("model__test_cfg__rcnn__nms", {"type": "nms", "class_agnostic": True}, "nms.class_agnostic=True"),
        ("model__test_cfg__rpn__nms_pre", None, "model.test_cfg.rpn.nms_pre="),
        ("model__data_preprocessor__type", "ImgDataPreprocessor", "data_preprocessor.type='ImgDataPreprocessor'"),
        ("model__data_preprocessor__pad_value", 114, "data_preprocessor.pad_value=114"),
        ("model__data_preprocessor", ..., "model.data_preprocessor (is needed"),
        (f"{PIPELINE}__1__keep_ratio", False, "keep_ratio=False (here true)"),
        (f"{PIPELINE}__1__scale", [(1333, 800), (800, 400)], "scale="),
        (f"{PIPELINE}__1__backend", "pillow", "backend='pillow'"),
        (f"{PIPELINE}__1__type", "FixScaleResize", "type='FixScaleResize'"),
        (f"{PIPELINE}", [], "test_pipeline (a pipeline for testing is needed"),
        ("model__roi_head", "none", "model.roi_head='none' (here a mapping)"),
        ("model__backbone__depth", "50", "model.backbone.depth='50' (here a number)"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_its_name(path: str, value: Any, said: str) -> None:
    with pytest.raises(UserError) as error:
        read(fpn(), **{path: value})
    assert said in str(error.value)
    assert str(error.value).startswith("config.py: ")


def test_version_1_is_refused() -> None:
    values = fpn()
    values["model"]["bbox_head"] = values["model"].pop("roi_head")["bbox_head"]
    with pytest.raises(UserError, match=r"a config of mmdetection 1; its boxes are a pixel wider"):
        read(values)


def test_all_problems_come_in_one_message() -> None:
    with pytest.raises(UserError) as error:
        read(
            fpn(),
            model__backbone__dcn={"type": "DCN"},
            model__neck__num_outs=4,
            model__test_cfg__rcnn__nms={"type": "soft_nms"},
        )
    assert all(word in str(error.value) for word in ("dcn", "num_outs", "soft_nms"))


def test_what_is_no_config_of_mmdetection() -> None:
    with pytest.raises(UserError, match="not a config of mmdetection, it has no `model`"):
        config_from_mmdetection({"MODEL": {}}, "config.yaml")
