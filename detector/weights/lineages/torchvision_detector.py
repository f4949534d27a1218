"""torchvision's own FasterRCNN, assembled as C4, as ours: names, anchor order, background rows, and its settings.

torchvision has no C4 model; people assemble one from `conv1 … layer3` as the backbone, `MultiScaleRoIAlign`, `layer4`
and an average as the box head, and `FastRCNNPredictor`. The names inside of those two modules are theirs to choose, so
they are recognised by what every ResNet of torchvision has.
"""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from detector.config import (
    BackboneConfig,
    Config,
    DetectionConfig,
    ModelConfig,
    RoIConfig,
    RPNConfig,
)
from detector.weights.lineages.torchvision_anchors import OBJECTNESS, with_our_order
from detector.weights.lineages.torchvision_resnet import DETECTORS_INPUT, RENAMES
from detector.weights.remap import remap, translate
from detector.weights.state_layout import model_shapes

# nn.Sequential(conv1, bn1, relu, maxpool, layer1, layer2, layer3) numbers them.
SEQUENTIAL = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3"}

# The module around the ResNet may be called anything (`body` in torchvision's own backbones).
_NAMED = re.compile(r"^backbone\.(?:\w+\.)?((?:conv1|bn1)\.\w+|layer[123]\.\d+\..+)$")
_NUMBERED = re.compile(
    r"^backbone\.(?:body\.)?([01]|[456](?=\.\d+\.))\.(\w+|\d+\.(?:conv\d|bn\d|downsample\.\d)\.\w+)$"
)
_HEAD = re.compile(r"^roi_heads\.box_head\.(?:.*\.)?(\d+\.(?:conv\d|bn\d|downsample\.\d)\.\w+)$")

# Theirs → ours. In older versions the RPN's convolution is no module in modules.
HEADS: Mapping[str, str] = {
    "rpn.head.conv.0.0.": "rpn.conv.",
    "rpn.head.conv.": "rpn.conv.",
    "rpn.head.cls_logits.": "rpn.objectness.",
    "rpn.head.bbox_pred.": "rpn.anchor_deltas.",
    "roi_heads.box_predictor.cls_score.": "roi_head.cls_score.",
    "roi_heads.box_predictor.bbox_pred.": "roi_head.bbox_pred.",
}
CLS_SCORE = "roi_heads.box_predictor.cls_score."
BBOX_PRED = "roi_heads.box_predictor.bbox_pred."


def torchvision_detector_config(
    depth: int,
    num_classes: int,
    anchor_sizes: Sequence[float] = (32.0, 64.0, 128.0, 256.0, 512.0),
    anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    stem_channels: int = 64,
    width: int = 64,
) -> Config:
    """The settings of `torchvision.models.detection.FasterRCNN` with its default arguments, assembled as C4.

    The numbers are the defaults in its faster_rcnn.py, rpn.py and roi_heads.py. RoIs are pooled by
    `MultiScaleRoIAlign([...], output_size=14, sampling_ratio=2)`. Whoever gave it other arguments replaces them here.

    Args:
        num_classes: K foreground classes; torchvision counts K + 1.
        anchor_sizes, anchor_ratios: of its `AnchorGenerator`, for its one feature map.
    """
    return Config(
        model=ModelConfig(
            num_classes=num_classes,
            backbone=BackboneConfig(depth=depth, stem_channels=stem_channels, width=width, stride_in_1x1=False),
            rpn=RPNConfig(
                anchor_sizes=tuple(anchor_sizes),
                anchor_ratios=tuple(anchor_ratios),
                anchor_rounding=True,
                smooth_l1_beta=1 / 9,
                pre_nms_top_n_train=2000,
                pre_nms_top_n_test=1000,
                post_nms_top_n_train=2000,
                post_nms_top_n_test=1000,
                min_size=1e-3,
            ),
            roi=RoIConfig(sampling_ratio=2, aligned=False, smooth_l1_beta=1 / 9),
            detection=DetectionConfig(min_size=1e-2),
        ),
        input=DETECTORS_INPUT,
    )


def is_torchvision_detector(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the names of torchvision's FasterRCNN."""
    return OBJECTNESS + "weight" in tensors and CLS_SCORE + "weight" in tensors


def num_classes_of(tensors: Mapping[str, Tensor]) -> int:
    """K, the number of foreground classes of a torchvision FasterRCNN, by the shape of its class layer."""
    return tensors[CLS_SCORE + "weight"].shape[0] - 1


def resnet_names(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The names of the backbone's and the box head's tensors → those of torchvision's ResNet, for what a ResNet has."""
    names: dict[str, str] = {}
    for name in tensors:
        named, numbered, head = _NAMED.match(name), _NUMBERED.match(name), _HEAD.match(name)
        if named is not None:
            names[name] = named[1]
        elif numbered is not None:
            names[name] = f"{SEQUENTIAL[numbered[1]]}.{numbered[2]}"
        elif head is not None:
            names[name] = f"layer4.{head[1]}"
    return names


def from_torchvision_detector(tensors: Mapping[str, Tensor], config: Config, where: str) -> dict[str, Tensor]:
    """Convert a C4 model built from `torchvision.models.detection.FasterRCNN`.

    Args:
        tensors: its state dict, float32.
        config: as `torchvision_detector_config` makes it.
        where: the file's name, for messages.

    Raises:
        UserError: every tensor that is left over, missing or of another shape.
    """
    shapes = model_shapes(config)
    ours_of = {theirs: ours for ours, theirs in translate(shapes, RENAMES).items()}
    table: dict[str, str | None] = {
        name: ours_of[resnet] for name, resnet in resnet_names(tensors).items() if resnet in ours_of
    }
    for theirs, ours in HEADS.items():
        table |= {theirs + kind: ours + kind for kind in ("weight", "bias") if theirs + kind in tensors}
    source = with_our_order(tensors, config)
    for kind in ("weight", "bias"):
        boxes = source.get(BBOX_PRED + kind)
        if boxes is not None and boxes.shape[0] == 4 * source[CLS_SCORE + kind].shape[0]:
            source[BBOX_PRED + kind] = boxes[4:]  # theirs has rows for the background, which nothing reads
    return remap(source, table, shapes, where)
