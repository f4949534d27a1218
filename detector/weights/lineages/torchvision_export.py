"""Write our detector over a feature pyramid as torchvision's `fasterrcnn_resnet50_fpn` or `_v2`: the way back."""

from collections.abc import Mapping

import torch
from torch import Tensor

from detector.config import Config
from detector.errors import UserError
from detector.weights.lineages.torchvision_anchors import with_their_order
from detector.weights.lineages.torchvision_pyramid import BBOX_PRED, renames_of
from detector.weights.remap import translate


def to_torchvision_pyramid(state_dict: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Our detector as a state dict of `fasterrcnn_resnet50_fpn` or `_v2` (or of another ResNet in the same frame).

    The inverse of `from_torchvision_pyramid`, bit for bit; the background's four rows of `bbox_pred`, which nothing
    reads, are zeros.

    Raises:
        UserError: one message naming every setting that torchvision has no counterpart for.
    """
    differing = differing_settings(config)
    if differing:
        raise UserError(f"torchvision has no counterpart for {', '.join(differing)}.")
    table = translate(state_dict, renames_of(config))
    theirs = with_their_order({table[name]: tensor for name, tensor in state_dict.items()}, config)
    for kind in ("weight", "bias"):
        rows = theirs[BBOX_PRED + kind]
        theirs[BBOX_PRED + kind] = torch.cat((rows.new_zeros(4, *rows.shape[1:]), rows))
    return theirs


def differing_settings(config: Config) -> list[str]:
    """Settings, as `key=value`, that torchvision has with another value, and no argument to change it."""
    model = config.model
    return [
        f"{key}={value}"
        for key, value, theirs in (
            ("model.kind", model.kind, "fpn"),
            ("model.backbone.stride_in_1x1", model.backbone.stride_in_1x1, False),
            ("model.backbone.shrinkage", model.backbone.shrinkage, None),
            ("model.rpn.anchor_rounding", model.rpn.anchor_rounding, True),
            ("model.rpn.anchor_strides", model.rpn.anchor_strides, "measured"),
            ("model.rpn.anchor_offset", model.rpn.anchor_offset, 0.0),
            ("model.rpn.rank_by", model.rpn.rank_by, "sigmoid_after_top_n"),
            ("model.rpn.limit_shrinking", model.rpn.limit_shrinking, False),
            ("model.roi.limit_shrinking", model.roi.limit_shrinking, False),
            ("model.roi.pooling", model.roi.pooling, "align"),
            ("model.roi.aligned", model.roi.aligned, False),
            ("model.roi.level_rule", model.roi.level_rule, "torchvision"),
            ("model.roi.global_context", model.roi.global_context, False),
            ("model.detection.nms_frame", model.detection.nms_frame, "input"),
            ("model.detection.merge", model.detection.merge, "nms"),
            ("model.detection.voting_threshold", model.detection.voting_threshold, None),
            ("model.detection.refine_passes", model.detection.refine_passes, 0),
            ("model.detection.min_size", model.detection.min_size, 1e-2),
            ("input.resize", config.input.resize, "torchvision"),
        )
        if value != theirs
    ]
