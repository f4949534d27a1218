"""The only place that turns settings into constructor arguments."""

import dataclasses

from torch import nn

from detector.config import Config, ModelConfig, RPNConfig
from detector.config.network import PYRAMID_LEVELS
from detector.errors import UserError
from detector.model.anchors import AnchorGenerator
from detector.model.faster_rcnn import FasterRCNN
from detector.model.fpn import FPN, POOLED_STAGES
from detector.model.global_context import ContextLayers
from detector.model.normalize import PixelNormalization
from detector.model.postprocess import DetectionSettings
from detector.model.proposals import ProposalSettings
from detector.model.resnet import ResNetC4, ResNetC5, ResNetShape
from detector.model.roi_head import AveragePool, FullyConnectedHead, RoIHead, RoILayers, SiblingLayers, sibling_layers
from detector.model.roi_pooling import RoIPooling
from detector.model.rpn import RPNHead


def build_model(config: Config) -> FasterRCNN:
    """Assemble the network with fresh weights.

    Raises:
        UserError: `model.num_classes` is not set.
    """
    model, pixels = config.model, config.input
    if model.num_classes is None:
        raise UserError("model.num_classes is not set; set it, or take it from the dataset's categories.")
    shape = resnet_shape(model)
    backbone = make_backbone(model, shape)
    channels = backbone.out_channels
    anchors = AnchorGenerator(
        sizes=model.rpn.anchor_sizes,
        ratios=model.rpn.anchor_ratios,
        offset=model.rpn.anchor_offset,
        rounding=model.rpn.anchor_rounding,
        levels=PYRAMID_LEVELS if model.kind == "fpn" else 1,
        measured_strides=model.rpn.anchor_strides == "measured",
        ratio_first=model.rpn.anchor_order == "ratio",
    )
    return FasterRCNN(
        normalize=PixelNormalization(pixels.pixel_mean, pixels.pixel_std),
        backbone=backbone,
        anchors=anchors,
        rpn=RPNHead(channels, model.rpn.channels or channels, anchors.per_cell, model.rpn.conv_layers),
        roi_head=make_roi_head(model, shape, channels, model.num_classes),
        proposal_settings=proposal_settings(model.rpn, training=False),
        detection_settings=detection_settings(model),
    )


def make_backbone(model: ModelConfig, shape: ResNetShape) -> ResNetC4 | ResNetC5 | FPN:
    """What turns pictures into feature maps, as the kind of model has it."""
    frozen, conv5_norm = model.backbone.freeze_stages, model.backbone.conv5_norm
    if model.kind == "c4":
        return ResNetC4(shape, frozen)
    if model.kind == "dc5":
        return ResNetC5(shape, frozen, conv5_norm, dilated=True)
    body = ResNetC5(shape, frozen, conv5_norm, stages=POOLED_STAGES)
    return FPN(body, [shape.stage_channels(stage) for stage in POOLED_STAGES], model.fpn.channels, model.fpn.norm)


def make_roi_head(
    model: ModelConfig, shape: ResNetShape, channels: int, num_classes: int
) -> RoIHead | FullyConnectedHead:
    """What looks at every RoI of maps of `channels`, as the kind of model has it."""
    roi = model.roi
    pooling = RoIPooling(
        kind=roi.pooling,
        size=roi.pooled_size,
        sampling_ratio=roi.sampling_ratio,
        aligned=roi.aligned,
        level_rule=roi.level_rule if model.kind == "fpn" else None,
    )
    if model.kind == "c4":
        conv5_shape = dataclasses.replace(shape, norm=model.backbone.conv5_norm or shape.norm)
        body = nn.Sequential(*conv5_shape.make_stage(5), AveragePool())
        outputs, context = output_layers(shape.stage_channels(5), num_classes, roi.global_context)
        return RoIHead(pooling, body, outputs, context)
    layers = RoILayers(
        in_channels=channels,
        size=roi.pooled_size,
        conv_layers=roi.conv_layers,
        conv_channels=roi.conv_channels,
        conv_norm=roi.conv_norm,
        fc_layers=roi.fc_layers,
        fc_channels=roi.fc_channels,
    )
    outputs, context = output_layers(layers.out_channels, num_classes, roi.global_context)
    return FullyConnectedHead(pooling, layers, outputs, context)


def output_layers(channels: int, num_classes: int, global_context: bool) -> tuple[SiblingLayers, ContextLayers | None]:
    """The two output layers on vectors of `channels`, and what the whole picture's vector adds to them, if it does."""
    outputs = sibling_layers(channels, num_classes)
    return outputs, ContextLayers(channels, num_classes) if global_context else None


def resnet_shape(model: ModelConfig) -> ResNetShape:
    """Which ResNet the settings ask for."""
    backbone = model.backbone
    return ResNetShape(
        depth=backbone.depth,
        stem_channels=backbone.stem_channels,
        width=backbone.width,
        norm=backbone.norm,
        stride_in_1x1=backbone.stride_in_1x1,
        norm_eps=backbone.norm_eps,
        groups=backbone.groups,
        width_per_group=backbone.width_per_group,
        shrinkage=backbone.shrinkage,
    )


def detection_settings(model: ModelConfig) -> DetectionSettings:
    """Which detections are kept, and how boxes that overlap are merged."""
    detection = model.detection
    return DetectionSettings(
        score_threshold=detection.score_threshold,
        nms_threshold=detection.nms_threshold,
        max_per_image=detection.max_per_image,
        min_size=detection.min_size,
        delta_weights=model.roi.delta_weights,
        limit_shrinking=model.roi.limit_shrinking,
        nms_frame=detection.nms_frame,
        merge=detection.merge,
        soft_nms_sigma=detection.soft_nms_sigma,
        fusion_threshold=detection.fusion_threshold,
        voting_threshold=detection.voting_threshold,
        refine_passes=detection.refine_passes,
        refine_keeps_all=detection.refine_keep == "union",
    )


def proposal_settings(rpn: RPNConfig, training: bool) -> ProposalSettings:
    """How many proposals an image gives, in training or in testing."""
    return ProposalSettings(
        pre_nms_top_n=rpn.pre_nms_top_n_train if training else rpn.pre_nms_top_n_test,
        post_nms_top_n=rpn.post_nms_top_n_train if training else rpn.post_nms_top_n_test,
        nms_threshold=rpn.nms_threshold,
        min_size=rpn.min_size,
        delta_weights=rpn.delta_weights,
        limit_shrinking=rpn.limit_shrinking,
        rank_by=rpn.rank_by,
    )
