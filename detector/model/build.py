"""The only place that turns settings into constructor arguments."""

import dataclasses

from torch import nn

from detector.config import Config, ModelConfig, RPNConfig
from detector.errors import UserError
from detector.model.anchors import AnchorGenerator
from detector.model.faster_rcnn import FasterRCNN
from detector.model.normalize import PixelNormalization
from detector.model.postprocess import DetectionSettings
from detector.model.proposals import ProposalSettings
from detector.model.resnet import ResNetC4, ResNetShape
from detector.model.roi_head import AveragePool, RoIHead, sibling_layers
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
    backbone = ResNetC4(shape, model.backbone.freeze_stages)
    channels = backbone.out_channels
    anchors = AnchorGenerator(
        sizes=model.rpn.anchor_sizes,
        ratios=model.rpn.anchor_ratios,
        offset=model.rpn.anchor_offset,
        rounding=model.rpn.anchor_rounding,
    )
    conv5_shape = dataclasses.replace(shape, norm=model.backbone.conv5_norm or shape.norm)
    return FasterRCNN(
        normalize=PixelNormalization(pixels.pixel_mean, pixels.pixel_std),
        backbone=backbone,
        anchors=anchors,
        rpn=RPNHead(channels, model.rpn.channels or channels, anchors.per_cell),
        roi_head=RoIHead(
            pooling=RoIPooling(
                kind=model.roi.pooling,
                size=model.roi.pooled_size,
                sampling_ratio=model.roi.sampling_ratio,
                aligned=model.roi.aligned,
            ),
            body=nn.Sequential(*conv5_shape.make_stage(5), AveragePool()),
            predictor=sibling_layers(shape.stage_channels(5), model.num_classes),
        ),
        proposal_settings=proposal_settings(model.rpn, training=False),
        detection_settings=DetectionSettings(
            score_threshold=model.detection.score_threshold,
            nms_threshold=model.detection.nms_threshold,
            max_per_image=model.detection.max_per_image,
            min_size=model.detection.min_size,
            delta_weights=model.roi.delta_weights,
        ),
    )


def resnet_shape(model: ModelConfig) -> ResNetShape:
    """Which ResNet the settings ask for."""
    backbone = model.backbone
    return ResNetShape(
        depth=backbone.depth,
        stem_channels=backbone.stem_channels,
        width=backbone.width,
        norm=backbone.norm,
        stride_in_1x1=backbone.stride_in_1x1,
    )


def proposal_settings(rpn: RPNConfig, training: bool) -> ProposalSettings:
    """How many proposals an image gives, in training or in testing."""
    return ProposalSettings(
        pre_nms_top_n=rpn.pre_nms_top_n_train if training else rpn.pre_nms_top_n_test,
        post_nms_top_n=rpn.post_nms_top_n_train if training else rpn.post_nms_top_n_test,
        nms_threshold=rpn.nms_threshold,
        min_size=rpn.min_size,
        delta_weights=rpn.delta_weights,
    )
