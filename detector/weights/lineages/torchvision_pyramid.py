"""torchvision's own `fasterrcnn_resnet50_fpn` and `_v2` as ours: names, the background's rows, their settings.

The numbers are the defaults in its faster_rcnn.py, rpn.py, roi_heads.py and transform.py. A state dict says nothing of
them; whoever gave other arguments gives a config of ours.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from detector.config import (
    BackboneConfig,
    Config,
    DetectionConfig,
    FPNConfig,
    ModelConfig,
    RoIConfig,
    RPNConfig,
)
from detector.errors import UserError
from detector.weights.compare import COUNTER
from detector.weights.lineages.imagenet import backbone_of
from detector.weights.lineages.torchvision_anchors import with_our_order
from detector.weights.lineages.torchvision_resnet import BLOCK_RENAMES, DETECTORS_INPUT
from detector.weights.remap import remap, translate
from detector.weights.state_layout import model_shapes

log = logging.getLogger(__name__)

# Ours → theirs, applied in turn as pieces of a name. What is numbered otherwise is in `renames_of`.
RENAMES = (
    (".backbone.lateral.", ".backbone.fpn.inner_blocks."),
    (".backbone.output.", ".backbone.fpn.layer_blocks."),
    *BLOCK_RENAMES,
    (".rpn.conv.", ".rpn.head.conv.0.0."),
    (".rpn.objectness.", ".rpn.head.cls_logits."),
    (".rpn.anchor_deltas.", ".rpn.head.bbox_pred."),
    (".roi_head.cls_score.", ".roi_heads.box_predictor.cls_score."),
    (".roi_head.bbox_pred.", ".roi_heads.box_predictor.bbox_pred."),
)
# Older versions have no module in a module here.
OLDER_NAMES = (
    (re.compile(r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$"), r"\1.0.\2"),
    (re.compile(r"^rpn\.head\.conv\.(weight|bias)$"), r"rpn.head.conv.0.0.\1"),
)
PYRAMID = "backbone.fpn.inner_blocks."
OBJECTNESS = "rpn.head.cls_logits.weight"
CLS_SCORE = "roi_heads.box_predictor.cls_score.weight"
BBOX_PRED = "roi_heads.box_predictor.bbox_pred."
ANCHORS_PER_CELL = 3
COCO_CLASSES = 90  # of its published models: COCO's ids, the unused ones too
# Other parts of a model, by the beginning of their names.
BRANCHES = {"roi_heads.mask_": "Mask R-CNN", "roi_heads.keypoint_": "Keypoint R-CNN"}


def is_torchvision_pyramid(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the names of torchvision's FasterRCNN over a feature pyramid."""
    names = newer_names(tensors)
    return OBJECTNESS in names and CLS_SCORE in names and any(name.startswith(PYRAMID) for name in names)


def other_torchvision_model(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of a detector of torchvision that we do not have, by its tensors; None for all else."""
    names = list(tensors)

    def has(beginning: str) -> bool:
        return any(name.startswith(beginning) for name in names)

    if has("head.regression_head.bbox_ctrness."):
        return "FCOS"
    if has("head.classification_head."):
        return "RetinaNet" if has("backbone.fpn.") else "SSD or SSDlite"
    if has("rpn.head.") and has("backbone.body.0.0."):
        return "Faster R-CNN on MobileNet"
    return None


def newer_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors by the names of newer versions."""
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, newer in OLDER_NAMES:
            name = pattern.sub(newer, name)
        renamed[name] = tensor
    return renamed


def torchvision_pyramid_config(tensors: Mapping[str, Tensor], where: str) -> Config:
    """The settings of torchvision's model with these tensors, with its default arguments.

    Frozen batch norms of a model with COCO's 91 rows are taken to have an epsilon of 0, as torchvision gives them when
    it loads its published weights; other ones 1e-5.

    Raises:
        UserError: no ResNet of the family, or another number of anchors a cell, whose sizes are not known then.
    """
    tensors = newer_names(tensors)
    resnet = {n.removeprefix("backbone.body."): t for n, t in tensors.items() if n.startswith("backbone.body.")}
    anchors = tensors[OBJECTNESS].shape[0]
    if anchors != ANCHORS_PER_CELL:
        raise UserError(
            f"{where}: has {anchors} anchors a cell and torchvision's own model {ANCHORS_PER_CELL}; give a config of "
            "ours with model.rpn.anchor_sizes and anchor_ratios by --config."
        )
    classes = tensors[CLS_SCORE].shape[0] - 1
    is_live = any(name.endswith(COUNTER) for name in resnet)
    backbone = backbone_of(resnet, "torchvision", where)
    norm_eps = 0.0 if classes == COCO_CLASSES and not is_live else 1e-5
    log.info(
        "%s: a torchvision model does not say its settings; its defaults are taken%s",
        where,
        "" if is_live else f", and {norm_eps:g} for the epsilon of its frozen batch norms (model.backbone.norm_eps)",
    )
    backbone = replace(
        _with_groups(backbone, resnet),
        norm="batch" if is_live else "frozen_batch",
        norm_eps=norm_eps,
        freeze_stages=0 if is_live else 2,
    )
    return Config(
        model=ModelConfig(
            kind="fpn",
            num_classes=classes,
            backbone=backbone,
            fpn=FPNConfig(
                channels=tensors[f"{PYRAMID}0.0.weight"].shape[0],
                norm="batch" if f"{PYRAMID}0.1.weight" in tensors else None,
            ),
            rpn=_rpn_config(tensors),
            roi=_roi_config(tensors),
            detection=DetectionConfig(min_size=1e-2),
        ),
        input=DETECTORS_INPUT,
    )


def _with_groups(backbone: BackboneConfig, resnet: Mapping[str, Tensor]) -> BackboneConfig:
    """The same as a ResNeXt or a wide ResNet where its 3×3 convolutions are wider than a quarter of the block."""
    expand = resnet.get("layer1.0.conv3.weight")
    if expand is None or expand.shape[0] == 4 * backbone.width:
        return backbone
    inner, per_group = resnet["layer1.0.conv2.weight"].shape[:2]
    return replace(backbone, width=expand.shape[0] // 4, groups=inner // per_group, width_per_group=per_group)


def _rpn_config(tensors: Mapping[str, Tensor]) -> RPNConfig:
    layers = len([name for name in tensors if re.fullmatch(r"rpn\.head\.conv\.\d+\.0\.weight", name)])
    return RPNConfig(
        anchor_rounding=True,
        anchor_strides="measured",
        conv_layers=layers,
        rank_by="sigmoid_after_top_n",
        smooth_l1_beta=1 / 9,
        normalize_by="sampled",
        pre_nms_top_n_train=2000,
        pre_nms_top_n_test=1000,
        post_nms_top_n_train=2000,
        post_nms_top_n_test=1000,
        min_size=1e-3,
    )


def _roi_config(tensors: Mapping[str, Tensor]) -> RoIConfig:
    convs = [n for n in tensors if re.fullmatch(r"roi_heads\.box_head\.\d+\.0\.weight", n)]
    layers = [n for n in tensors if re.fullmatch(r"roi_heads\.box_head\.(fc[67]|\d+)\.weight", n)]
    return RoIConfig(
        pooled_size=7,
        sampling_ratio=2,
        aligned=False,
        level_rule="torchvision",
        conv_layers=len(convs),
        conv_channels=tensors[convs[0]].shape[0] if convs else 256,
        conv_norm="batch" if "roi_heads.box_head.0.1.weight" in tensors else None,
        fc_layers=len(layers),
        fc_channels=tensors[layers[0]].shape[0] if layers else 1024,
        smooth_l1_beta=1 / 9,
    )


def from_torchvision_pyramid(
    tensors: Mapping[str, Tensor], config: Config, where: str, boxes_only: bool = False
) -> dict[str, Tensor]:
    """Convert a Faster R-CNN over a feature pyramid, of either generation of names.

    Args:
        tensors: its state dict, float32.
        config: as `torchvision_pyramid_config` makes it, or the user's.
        where: the file's name, for messages.
        boxes_only: leave a mask or keypoint branch out.

    Raises:
        UserError: every tensor that is left over, missing or of another shape; or a mask or keypoint branch.
    """
    source = with_our_order(without_branches(newer_names(tensors), where, boxes_only), config)
    shapes = model_shapes(config)
    table: dict[str, str | None] = {theirs: ours for ours, theirs in translate(shapes, renames_of(config)).items()}
    for kind in ("weight", "bias"):
        boxes = source.get(BBOX_PRED + kind)
        if boxes is not None and boxes.shape[0] == 4 * ((config.model.num_classes or 0) + 1):
            source[BBOX_PRED + kind] = boxes[4:]  # theirs has rows for the background, which nothing reads
    return remap(source, table, shapes, where)


def without_branches(tensors: Mapping[str, Tensor], where: str, boxes_only: bool) -> dict[str, Tensor]:
    """The tensors without a mask or keypoint branch, which is refused unless `boxes_only`."""
    kept = dict(tensors)
    if boxes_only and not any(name.startswith(tuple(BRANCHES)) for name in tensors):
        raise UserError(f"{where}: has neither masks nor keypoints, all of it is boxes; leave --boxes-only out.")
    for beginning, name in BRANCHES.items():
        branch = [n for n in tensors if n.startswith(beginning)]
        if branch and not boxes_only:
            raise UserError(
                f"{where}: a {name} of torchvision; --boxes-only loads its box branch, without {len(branch)} tensors."
            )
        if branch:
            log.info("%s: left out: %d tensors of the %s branch", where, len(branch), name)
        kept = {n: tensor for n, tensor in kept.items() if n not in set(branch)}
    return kept


def renames_of(config: Config) -> list[tuple[str, str]]:
    """Ours → theirs, those too that are numbered in another way."""
    roi, pieces = config.model.roi, list(RENAMES)
    layers = range(1, config.model.rpn.conv_layers)
    pieces += [(f".rpn.more_convs.{number - 1}.", f".rpn.head.conv.{number}.0.") for number in layers]
    for number in range(roi.conv_layers):
        pieces.append((f".roi_head.layers.convs.{number}.conv.", f".roi_heads.box_head.{number}.0."))
        pieces.append((f".roi_head.layers.convs.{number}.norm.", f".roi_heads.box_head.{number}.1."))
    for number in range(roi.fc_layers):
        # With convolutions they lie in one sequence: the convolutions, a flattening, then layers and ReLUs in turn.
        place = f"{roi.conv_layers + 1 + 2 * number}" if roi.conv_layers else f"fc{6 + number}"
        pieces.append((f".roi_head.layers.fcs.{number}.", f".roi_heads.box_head.{place}."))
    for number in range(4):
        for block in ("inner_blocks", "layer_blocks"):
            pieces.append((f".fpn.{block}.{number}.conv.", f".fpn.{block}.{number}.0."))
            pieces.append((f".fpn.{block}.{number}.norm.", f".fpn.{block}.{number}.1."))
    return pieces
