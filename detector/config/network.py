"""The settings of the network itself: `model.…`. `settings.py` says what all settings have in common."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from detector.config.detection import DetectionConfig
from detector.config.limits import check_limits, limited, require

NormName = Literal["frozen_batch", "batch", "group"]


@dataclass(frozen=True)
class BackboneConfig:
    """ResNet conv1 … conv5_x (ResNet paper, table 1)."""

    depth: int = 101  # 18, 34: basic blocks; 50, 101, 152: bottlenecks
    stem_channels: int = limited(64, 1, 1024)
    # Channels of the first 3×3 convolution of conv2_x, a quarter of the bottleneck's output; doubles with every stage.
    width: int = limited(64, 1, 512)
    # A bottleneck's 3×3 convolution in groups (ResNeXt): 32 in X101-32x8d, with 8 channels each in conv2_x.
    groups: int = limited(1, 1, 256)
    width_per_group: int | None = limited(None, 1, 512)  # doubles with every stage; null: width / groups
    norm: NormName = "frozen_batch"
    norm_eps: float = limited(1e-5, 0, 0.1)  # the published weights of torchvision's fasterrcnn_resnet50_fpn have 0
    conv5_norm: NormName | None = None  # of conv5_x; null: as `norm`
    # Deep residual shrinkage (Zhao et al. 2020): soft thresholds on what each block adds, for noisy pictures; one for
    # every channel (channel) or for all of a block (shared). Trained from scratch, with live norms.
    shrinkage: Literal["channel", "shared"] | None = None
    stride_in_1x1: bool = True  # MSRA and detectron2 put a bottleneck's stride in the 1×1, torchvision in the 3×3
    # Stages that are not trained. 0: none; 1: conv1; 2: conv1 and conv2_x; … 5, of FPN and DC5: conv1 … conv5_x.
    freeze_stages: int = limited(2, 0, 5)
    weights: str | None = None  # ImageNet weights to start from: a path or a published name
    weights_channels: Literal["rgb", "bgr"] = "rgb"  # of the file's conv1, where its format does not say (Caffe: bgr)

    def __post_init__(self) -> None:
        check_limits(self, "model.backbone.")
        require(
            self.depth in (18, 34, 50, 101, 152),
            f"model.backbone.depth={self.depth}: choose 18, 34, 50, 101 or 152.",
        )
        require(
            self.depth < 50 or self.width_per_group is not None or self.width % self.groups == 0,
            f"model.backbone.width={self.width} is no multiple of groups={self.groups}; set width_per_group.",
        )
        require(
            self.shrinkage is None or "frozen_batch" not in (self.norm, self.conv5_norm),
            f"model.backbone.shrinkage={self.shrinkage} changes what frozen norms were computed for; set "
            "model.backbone.norm (and conv5_norm) to batch or group.",
        )


PYRAMID_LEVELS = 5  # of strides 4, 8, 16, 32 and 64


@dataclass(frozen=True)
class FPNConfig:
    """The feature pyramid of `model.kind=fpn` (FPN paper §3)."""

    channels: int = limited(256, 1, 4096)  # of every level
    norm: NormName | None = None  # after each of its convolutions; torchvision's `_v2` model has batch

    def __post_init__(self) -> None:
        check_limits(self, "model.fpn.")


@dataclass(frozen=True)
class RPNConfig:
    """Region proposal network (Faster R-CNN §3.1)."""

    # Square roots of the areas, in pixels. A pyramid's five levels share them out in order, as many to each.
    anchor_sizes: tuple[float, ...] = limited((32.0, 64.0, 128.0, 256.0, 512.0), 0.1, 1e5, most=32)
    anchor_ratios: tuple[float, ...] = limited((0.5, 1.0, 2.0), 0.01, 100, most=32)  # height / width
    # Centre of the first anchor, in strides; 0.5 puts it on the cell's middle.
    anchor_offset: float = limited(0.0, -10, 10)
    # Whether a cell's anchors go through the ratios of each size (size), or, in mmdetection, the sizes of each ratio.
    anchor_order: Literal["size", "ratio"] = "size"
    anchor_rounding: bool = False  # torchvision and py-faster-rcnn round base anchors to whole pixels
    # Pixels between a level's anchors: its nominal stride, or, as in torchvision, the padded picture's size divided by
    # the map's and rounded down (61 in place of 64, where 800 rows give 13).
    anchor_strides: Literal["nominal", "measured"] = "nominal"
    channels: int | None = limited(None, 1, 16_384)  # of its 3×3 convolutions; null: as many as the feature map has
    conv_layers: int = limited(1, 1, 8)  # 3×3 convolutions one after another; torchvision's `_v2` model has 2
    delta_weights: tuple[float, float, float, float] = limited((1.0, 1.0, 1.0, 1.0), 1e-3, 1e3, most=4)
    # mmdetection bounds a box's change of size from below too, to 16/1000; all others from above alone, to 1000/16.
    limit_shrinking: bool = False
    positive_iou: float = limited(0.7, 0, 1)
    negative_iou: float = limited(0.3, 0, 1)
    batch_size_per_image: int = limited(256, 1, 100_000)
    positive_fraction: float = limited(0.5, 1e-6, 1)
    smooth_l1_beta: float = limited(0.0, 0, 100)  # 0 is plain L1; py-faster-rcnn and torchvision use 1/9
    # Both losses are divided by the configured number of anchors (detectron2) or by that of the sampled (torchvision).
    normalize_by: Literal["batch_size", "sampled"] = "batch_size"
    # By what proposals are ranked. mmdetection takes the sigmoid, which is 1.0 for all logits above 17, and torchvision
    # the logit for the top n and then the sigmoid; equal ones stay in the anchors' order.
    rank_by: Literal["logit", "sigmoid", "sigmoid_after_top_n"] = "logit"
    # Of each feature map.
    pre_nms_top_n_train: int = limited(12000, 1, 1_000_000)
    pre_nms_top_n_test: int = limited(6000, 1, 1_000_000)
    # Of all together.
    post_nms_top_n_train: int = limited(2000, 1, 50_000)
    post_nms_top_n_test: int = limited(1000, 1, 50_000)
    nms_threshold: float = limited(0.7, 0, 1)
    min_size: float = limited(0.0, 0, 1e4)  # proposals must be larger than this in width and height, in input pixels

    def __post_init__(self) -> None:
        check_limits(self, "model.rpn.")
        require(
            self.negative_iou <= self.positive_iou,
            f"model.rpn.negative_iou={self.negative_iou} must not exceed model.rpn.positive_iou={self.positive_iou}.",
        )


@dataclass(frozen=True)
class RoIConfig:
    """Per-region pooling, targets and head (Fast R-CNN §2; ResNet paper, appendix A)."""

    pooling: Literal["align", "pool"] = "align"  # RoIAlign (Mask R-CNN §3) or RoIPool (Fast R-CNN §2.1)
    pooled_size: int = limited(14, 1, 64)
    # RoIAlign samples per bin and axis; 0: as many as the bin has feature cells.
    sampling_ratio: int = limited(0, 0, 16)
    aligned: bool = True  # half-pixel shift of RoIAlign; torchvision's detectors use false
    # How a pyramid's level follows from a RoI's √area s (FPN paper, eq. 1), rounded down: detectron2 has
    # 4 + log2(s/224 + 1e-8), torchvision 4 + log2(s/224) + 1e-6, mmdetection log2(s/56 + 1e-6) counted from the finest.
    level_rule: Literal["detectron2", "torchvision", "mmdetection"] = "detectron2"
    # The layers between pooling and the two outputs, of FPN and DC5: 3×3 convolutions, then fully connected layers.
    conv_layers: int = limited(0, 0, 16)  # torchvision's `_v2` model has 4, with batch norms, and one fully connected
    conv_channels: int = limited(256, 1, 16_384)
    conv_norm: NormName | None = None
    fc_layers: int = limited(2, 0, 16)
    fc_channels: int = limited(1024, 1, 16_384)
    batch_size_per_image: int = limited(512, 1, 100_000)
    positive_fraction: float = limited(0.25, 1e-6, 1)
    positive_iou: float = limited(0.5, 1e-6, 1)
    delta_weights: tuple[float, float, float, float] = limited((10.0, 10.0, 5.0, 5.0), 1e-3, 1e3, most=4)
    limit_shrinking: bool = False  # as of the RPN
    smooth_l1_beta: float = limited(0.0, 0, 100)
    # Train the head on its own boxes as well: it looks again at what it made of the sampled RoIs, with targets by IoU.
    # For model.detection.refine_passes; the head then costs twice as much in training.
    train_refinement: bool = False
    # Judge each RoI with the whole picture in view: its vector is joined to the RoI's before the two output layers
    # (ResNet paper, appendix B). Weights without it load; its part starts at zero.
    global_context: bool = False

    def __post_init__(self) -> None:
        check_limits(self, "model.roi.")


@dataclass(frozen=True)
class ModelConfig:
    """The network. `num_classes` counts foreground classes; null takes it from the dataset's categories."""

    num_classes: int | None = limited(None, 1, 50_000)
    # c4: one map of stride 16, conv5_x on every RoI (ResNet paper, appendix A). fpn: five maps, two fully connected
    # layers on every RoI (FPN paper). dc5: one map of stride 16, conv5_x dilated (R-FCN, §2), two such layers.
    kind: Literal["c4", "fpn", "dc5"] = "c4"
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    fpn: FPNConfig = field(default_factory=FPNConfig)
    rpn: RPNConfig = field(default_factory=RPNConfig)
    roi: RoIConfig = field(default_factory=RoIConfig)
    detection: DetectionConfig = field(default_factory=DetectionConfig)
    weights: str | None = None  # start from this detector: a path or a published name; its head is re-made if it must

    @property
    def network(self) -> str:
        """What the network is called: `ResNet-50-FPN`, `ResNeXt-101-32x8d-FPN`."""
        backbone = self.backbone
        name = f"ResNet-{backbone.depth}"
        if backbone.groups > 1 and backbone.depth >= 50:
            each = backbone.width_per_group or backbone.width // backbone.groups
            name = f"ResNeXt-{backbone.depth}-{backbone.groups}x{each}d"
        return f"{name}-{self.kind.upper()}"

    def __post_init__(self) -> None:
        check_limits(self, "model.")
        require(
            self.kind != "c4" or self.backbone.freeze_stages <= 4,
            f"model.backbone.freeze_stages={self.backbone.freeze_stages}: a C4 backbone has 4 stages, choose 0 to 4.",
        )
        sizes = len(self.rpn.anchor_sizes)
        require(
            self.kind != "fpn" or sizes % PYRAMID_LEVELS == 0,
            f"model.rpn.anchor_sizes has {sizes} values: a pyramid's {PYRAMID_LEVELS} levels share them out, give "
            f"{PYRAMID_LEVELS} or a multiple.",
        )


# What a kind of model has where nothing else is set, by the lineage (detectron2's Base-RCNN-FPN and -DilatedC5); the
# defaults of the classes above are C4's.
KIND_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "fpn": {
        "input": {"pad_to_multiple": 32},
        "model": {
            "rpn": {"pre_nms_top_n_train": 2000, "pre_nms_top_n_test": 1000, "post_nms_top_n_train": 1000},
            "roi": {"pooled_size": 7},
        },
    },
    "dc5": {"model": {"roi": {"pooled_size": 7}}},
}
