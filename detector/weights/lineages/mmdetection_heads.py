"""The two heads of mmdetection's Faster R-CNN as our settings: RPN, RoI head, and how both select."""

from collections.abc import Mapping
from typing import Any

from detector.weights.lineages.mmdetection_section import Section

STRIDES = {"c4": [16], "fpn": [4, 8, 16, 32, 64], "dc5": [16]}
FINEST_SCALE = 56  # √area of the RoIs that just come to the second level of a pyramid
POOLED_SIZES = {"c4": 14, "fpn": 7, "dc5": 7}
FC_LAYERS = 2
BOX_HEADS = {"c4": ("BBoxHead",), "fpn": ("Shared2FCBBoxHead", "ConvFCBBoxHead")}
BOX_LOSSES = ("L1Loss", "SmoothL1Loss", "IoULoss", "GIoULoss", "DIoULoss", "CIoULoss", "BoundedIoULoss", "")
MASKS = ("mask_roi_extractor", "mask_head")


def read_rpn(section: Section, kind: str, ours: dict[str, Any]) -> None:
    """`model.rpn_head`: anchors, their box code, and what its convolutions are."""
    name = section.name()
    if name != "RPNHead":
        section.refuse("type", name, "here RPNHead")
    section.only("num_convs", 1)
    section.only("num_classes", 1)
    ours |= {
        "model.rpn.channels": int(section.number("feat_channels", 256)),
        "model.rpn.limit_shrinking": True,
        "model.rpn.rank_by": "sigmoid",
        "model.rpn.normalize_by": "sampled",
        "model.rpn.delta_weights": read_coder(section.section("bbox_coder")),
        "model.rpn.smooth_l1_beta": read_losses(section, uses_sigmoid=True),
    }
    _read_anchors(section.section("anchor_generator"), kind, ours)
    section.ignore("in_channels", "init_cfg", "reg_decoded_bbox", "train_cfg", "test_cfg")
    section.finish()


def _read_anchors(section: Section, kind: str, ours: dict[str, Any]) -> None:
    name = section.name()
    if name != "AnchorGenerator":
        section.refuse("type", name, "here AnchorGenerator")
    strides = section.take("strides", [])
    squares = [stride[0] if isinstance(stride, list | tuple) and len({*stride}) == 1 else stride for stride in strides]
    if squares != STRIDES[kind]:
        section.refuse("strides", strides, f"here {STRIDES[kind]} for such a model")
    bases = section.numbers("base_sizes", len(STRIDES[kind]), tuple(STRIDES[kind]))
    offset = section.number("center_offset", 0)
    if offset and bases != STRIDES[kind]:
        section.refuse("center_offset", offset, "here 0 with base_sizes")
    if "scales" in section:
        scales = section.numbers("scales")
    else:
        octave, steps = section.number("octave_base_scale"), int(section.number("scales_per_octave"))
        scales = [octave * 2 ** (i / steps) for i in range(steps)]
    ours |= {
        "model.rpn.anchor_sizes": [base * scale for base in bases for scale in scales],
        "model.rpn.anchor_ratios": section.numbers("ratios"),
        "model.rpn.anchor_offset": offset,
        "model.rpn.anchor_order": "ratio" if section.take("scale_major", True) and len(scales) > 1 else "size",
    }
    section.only("centers", None)
    section.ignore("octave_base_scale", "scales_per_octave", "use_box_type")
    section.finish()


def read_proposals(section: Section, ours: dict[str, Any]) -> None:
    """`test_cfg.rpn`: which anchors become proposals."""
    limit = section.number("max_per_img", section.take("max_num", 1000))  # version 2.0 called it max_num
    of_level = section.number("nms_post", limit)
    if of_level < limit:
        section.refuse("nms_post", of_level, f"here at least max_num={limit}")
    ours |= {
        "model.rpn.pre_nms_top_n_test": int(section.number("nms_pre")),
        "model.rpn.post_nms_top_n_test": int(limit),
        "model.rpn.nms_threshold": read_nms(section, section.take("nms_thr", 0.7)),
        "model.rpn.min_size": section.number("min_bbox_size", 0),
    }
    section.only("nms_across_levels", False)
    section.finish()


def read_roi_head(section: Section, kind: str, ours: dict[str, Any], boxes_only: bool) -> bool:
    """`model.roi_head`: pooling and box head. Returns whether it predicts one box for all classes."""
    name = section.name()
    if name != "StandardRoIHead":
        section.refuse("type", name, "here StandardRoIHead")
    if kind == "c4":
        _read_shared_head(section.section("shared_head"), ours)
    _read_extractor(section.section("bbox_roi_extractor"), kind, ours)
    class_agnostic = _read_box_head(section.section("bbox_head"), kind, ours)
    if boxes_only:
        section.ignore(*MASKS)
    else:
        section.only("mask_head", None)
    section.ignore("train_cfg", "test_cfg", "init_cfg", "pretrained")
    section.finish()
    return class_agnostic


def _read_shared_head(section: Section, ours: dict[str, Any]) -> None:
    """conv5_x of a C4 model, which must be the backbone's."""
    name = section.name()
    if name != "ResLayer":
        section.refuse("type", name, "here ResLayer")
    section.only("depth", ours["model.backbone.depth"])
    section.only("style", "caffe" if ours["model.backbone.stride_in_1x1"] else "pytorch")
    section.only("stage", 3)
    section.only("stride", 2)
    section.only("dilation", 1)
    section.only("dcn", None)
    section.ignore("norm_cfg", "norm_eval", "with_cp", "init_cfg", "pretrained")
    section.finish()


def _read_extractor(section: Section, kind: str, ours: dict[str, Any]) -> None:
    name = section.name()
    if name != "SingleRoIExtractor":
        section.refuse("type", name, "here SingleRoIExtractor")
    section.only("featmap_strides", STRIDES[kind][:4])
    section.only("finest_scale", FINEST_SCALE)
    layer = section.section("roi_layer")
    name = layer.name()
    if name != "RoIAlign":
        layer.refuse("type", name, "here RoIAlign")
    sides = layer.take("output_size", layer.take("out_size", POOLED_SIZES[kind]))  # out_size: before mmcv 1.0
    if sides not in (POOLED_SIZES[kind], [POOLED_SIZES[kind]] * 2, (POOLED_SIZES[kind],) * 2):
        layer.refuse("output_size", sides, f"here {POOLED_SIZES[kind]}")
    layer.only("pool_mode", "avg")
    ours |= {
        "model.roi.pooled_size": POOLED_SIZES[kind],
        "model.roi.sampling_ratio": int(layer.number("sampling_ratio", layer.take("sample_num", 0))),
        "model.roi.aligned": bool(layer.take("aligned", True)),
        "model.roi.level_rule": "mmdetection",
    }
    layer.ignore("use_torchvision")
    layer.finish()
    section.ignore("out_channels", "init_cfg")
    section.finish()


def _read_box_head(section: Section, kind: str, ours: dict[str, Any]) -> bool:
    name, heads = section.name(), BOX_HEADS["c4" if kind == "c4" else "fpn"]
    if name not in heads:
        section.refuse("type", name, f"here {' or '.join(heads)} for such a model")
    if kind == "c4":
        if not section.take("with_avg_pool", False):
            section.refuse("with_avg_pool", False, "here true for such a model")
    else:
        section.only("num_shared_convs", 0)
        layers = section.take("num_shared_fcs", FC_LAYERS if name == "Shared2FCBBoxHead" else 0)
        if layers != FC_LAYERS:
            section.refuse("num_shared_fcs", layers, f"here {FC_LAYERS}")
        for branch in ("cls", "reg"):
            section.only(f"num_{branch}_convs", 0)
            section.only(f"num_{branch}_fcs", 0)
        section.only("norm_cfg", None)
        section.only("conv_cfg", None)
        section.only("with_avg_pool", False)
        ours["model.roi.fc_layers"] = FC_LAYERS
        ours["model.roi.fc_channels"] = int(section.number("fc_out_channels", 1024))
        section.ignore("conv_out_channels")
    section.only("roi_feat_size", 7, [7, 7])
    section.only("reg_predictor_cfg", {"type": "Linear"})
    section.only("cls_predictor_cfg", {"type": "Linear"})
    ours |= {
        "model.num_classes": int(section.number("num_classes", 80)),
        "model.roi.limit_shrinking": True,
        "model.roi.delta_weights": read_coder(section.section("bbox_coder")),
        "model.roi.smooth_l1_beta": read_losses(section, uses_sigmoid=False),
    }
    class_agnostic = bool(section.take("reg_class_agnostic", False))
    section.ignore("in_channels", "init_cfg", "reg_decoded_bbox", "predict_box_type", "with_cls", "with_reg")
    section.finish()
    return class_agnostic


def read_coder(section: Section) -> list[float]:
    """The weights of a box code: one over its deviations."""
    name = section.name()
    if name not in ("DeltaXYWHBBoxCoder", ""):
        section.refuse("type", name, "here DeltaXYWHBBoxCoder")
    section.only("target_means", [0, 0, 0, 0])
    section.only("clip_border", True)
    section.only("add_ctr_clamp", False)
    section.ignore("ctr_clamp", "encode_size", "use_box_type")
    deviations = section.numbers("target_stds", 4, (1.0, 1.0, 1.0, 1.0))
    section.finish()
    return [1 / value if value else 0.0 for value in deviations]


def read_losses(section: Section, uses_sigmoid: bool) -> float:
    """Check how scores are made of logits; returns β of smooth L1, 0 for L1 and for losses that we do not have."""
    classes = section.section("loss_cls")
    name = classes.name()
    if name not in ("CrossEntropyLoss", ""):
        classes.refuse("type", name, "here CrossEntropyLoss")
    if bool(classes.take("use_sigmoid", False if name else uses_sigmoid)) != uses_sigmoid:
        classes.refuse("use_sigmoid", not uses_sigmoid, f"here {str(uses_sigmoid).lower()}")
    boxes = section.section("loss_bbox")
    name = boxes.name()
    if name not in BOX_LOSSES:
        boxes.refuse("type", name, f"here {', '.join(BOX_LOSSES[:-1])}")
    return float(boxes.number("beta", 1.0)) if name == "SmoothL1Loss" else 0.0


def read_nms(section: Section, threshold: float) -> float:
    """The threshold of the NMS that a section asks for; `threshold` where it does not say."""
    nms = section.section("nms")
    name = nms.name()
    if name not in ("nms", ""):
        nms.refuse("type", name, "here nms")
    value = nms.number("iou_threshold", nms.take("iou_thr", threshold))  # iou_thr: before mmcv 1.0
    nms.only("class_agnostic", False)
    nms.only("max_num", -1)
    nms.ignore("split_thr")  # from how many boxes on it goes class by class, which gives the same
    if name in ("nms", ""):
        nms.finish()
    return value


def read_selection(section: Section, ours: dict[str, Any]) -> None:
    """`test_cfg.rcnn`: which boxes become detections."""
    ours |= {
        "model.detection.score_threshold": section.number("score_thr", 0.05),
        "model.detection.max_per_image": int(section.number("max_per_img", 100)),
        "model.detection.nms_threshold": read_nms(section, 0.5),
        "model.detection.nms_frame": "original",
    }
    section.ignore("mask_thr_binary")
    section.finish()


def training_settings(train: Any) -> dict[str, Any]:
    """What `train_cfg` says where it says it in the usual way; detections do not depend on it."""
    ours: dict[str, Any] = {}
    for section, prefix in (("rpn", "model.rpn."), ("rcnn", "model.roi.")):
        assigner, sampler = _at(train, section, "assigner"), _at(train, section, "sampler")
        for mapping, key, name in (
            (assigner, "pos_iou_thr", "positive_iou"),
            (sampler, "num", "batch_size_per_image"),
            (sampler, "pos_fraction", "positive_fraction"),
        ):
            if _is_number(mapping.get(key)):
                ours[prefix + name] = mapping[key]
    if _is_number(_at(train, "rpn", "assigner").get("neg_iou_thr")):
        ours["model.rpn.negative_iou"] = _at(train, "rpn", "assigner")["neg_iou_thr"]
    proposals = _at(train, "rpn_proposal")
    for key, name in (("nms_pre", "pre_nms_top_n_train"), ("max_per_img", "post_nms_top_n_train")):
        if _is_number(proposals.get(key)):
            ours["model.rpn." + name] = proposals[key]
    return ours


def _at(values: Any, *keys: str) -> Mapping[str, Any]:
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
