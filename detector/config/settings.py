"""Every setting of the project as typed, frozen dataclasses.

The defaults are those of the lineage whose ResNet-101-C4 reached 41.1 AP on COCO val2017 (detectron2's
`faster_rcnn_R_101_C4_3x`); where other lineages differ, the field's comment says so, and where FPN and DC5 do,
`KIND_DEFAULTS`.

`limited(default, smallest, largest)` bounds every number, for settings also come in weights files, which anybody may
have made: the limits lie beyond all use that is known, and below what would fill the memory or take for ever.
`__post_init__` raises `ConfigError` naming the key, the value and what to choose.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from detector.config.detection import DetectionConfig
from detector.config.limits import check_limits, limited, require

MOST = 10**9  # iterations and what is counted in them


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
    limit_shrinking: bool = (
        False  # mmdetection bounds a box's change of size to 16/1000 too, all others to 1000/16 alone
    )
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
    # Judge each RoI with the whole picture in view: its vector is joined to the RoI's before the two output layers.
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


@dataclass(frozen=True)
class InputConfig:
    """How a picture becomes network input. Pixels are RGB, 0 to 255, throughout."""

    pixel_mean: tuple[float, float, float] = limited((123.675, 116.28, 103.53), -1e4, 1e4, most=3)
    # Torchvision's weights want (58.395, 57.12, 57.375).
    pixel_std: tuple[float, float, float] = limited((1.0, 1.0, 1.0), 1e-3, 1e4, most=3)
    # Shortest edge, chosen at random per image.
    min_size_train: tuple[int, ...] = limited((640, 672, 704, 736, 768, 800), 0, 20_000, most=100)
    max_size_train: int = limited(1333, 1, 20_000)
    min_size_test: int = limited(800, 0, 20_000)  # 0 leaves pictures at their own size
    max_size_test: int = limited(1333, 1, 20_000)
    # pil: 8-bit antialiased bilinear (detectron2). cv2: 8-bit bilinear (mmdetection). torchvision: bilinear in floats.
    resize: Literal["pil", "torchvision", "cv2"] = "pil"
    # Of the batch's height and width. FPN: 32. C4 and DC5: 1 in detectron2, 32 in torchvision and mmdetection.
    pad_to_multiple: int = limited(1, 1, 1024)
    # Of a file; larger pictures are refused before they are decoded, which takes 3 bytes a pixel.
    max_pixels: int = limited(89_478_485, 1, 2**32)
    # Bits in use of 16-bit pictures; null: guessed from the data, with a warning.
    bit_depth: int | None = limited(None, 8, 16)

    def __post_init__(self) -> None:
        check_limits(self, "input.")


@dataclass(frozen=True)
class AugmentConfig:
    """Train-time augmentation beyond the multi-scale resize of `input.min_size_train`; boxes move with the image."""

    horizontal_flip: float = limited(0.5, 0, 1)  # probability
    vertical_flip: float = limited(0.0, 0, 1)
    crop: float = limited(0.0, 0, 1)  # probability of a random crop that keeps at least one box centre
    crop_min_scale: float = limited(0.5, 0.01, 1)  # smallest crop edge, as a fraction of the image's
    color_jitter: float = limited(0.0, 0, 1)  # probability
    brightness: float = limited(0.2, 0, 10)
    contrast: float = limited(0.2, 0, 10)
    saturation: float = limited(0.2, 0, 10)
    hue: float = limited(0.02, 0, 0.5)
    transforms: tuple[Any, ...] = ()  # of albumentations, in order: ToGray, or {GaussianBlur: {sigma_limit: [0.5, 2]}}

    def __post_init__(self) -> None:
        check_limits(self, "data.augment.")


@dataclass(frozen=True)
class DataConfig:
    """Datasets. Relative paths start at the project root (the folder of pyproject.toml)."""

    format: Literal["coco", "voc", "yolo"] = "coco"
    generate: Literal["shapes"] | None = None  # render the embedded set when its files are missing
    train_annotations: str | None = None
    train_images: str | None = None
    val_annotations: str | None = None
    val_images: str | None = None
    test_annotations: str | None = None  # kept aside: only `evaluate --split test` reads it
    test_images: str | None = None
    # Without a val split: this share of the training pictures becomes it, chosen by a hash of their bytes.
    hold_out: float = limited(0.0, 0, 0.9)
    hold_out_seed: int = limited(0, 0, 2**63 - 1)
    keep_empty_images: bool = True  # train on pictures without objects too; detectron2 leaves them out
    drop_degenerate_boxes: bool = True  # drop boxes without area, counted in the log; false: stop and name them
    max_dropped: float = limited(0.05, 0, 1)  # the greatest share of boxes that may be dropped; more than that stops
    skip_unreadable_images: bool = True  # train on another one, named in the log; false: stop at the first
    # Pictures of classes that fewer than this share of all pictures show are shown more often; null: all alike.
    repeat_threshold: float | None = limited(None, 1e-6, 1)
    aspect_grouping: bool = True  # batches hold only wide or only tall pictures, so padding stays small
    num_workers: int = limited(2, 0, 256)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        check_limits(self, "data.")


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation, schedule, and what is written when. An iteration is one optimizer step."""

    # Passes over the training pictures; where set, it decides `iterations`, and the run's config.yaml has these.
    epochs: float | None = limited(None, 1e-3, MOST)
    iterations: int = limited(90_000, 1, MOST)
    # Pictures per optimizer step, over all processes and accumulated micro-batches together.
    batch_size: int = limited(16, 1, 100_000)
    # Split each process's share of the batch into this many forward and backward passes.
    accumulate: int = limited(1, 1, 100_000)
    learning_rate: float = limited(0.02, 1e-12, 1e4)
    # Learning_rate is meant for this batch and scaled linearly; null: as it is.
    reference_batch_size: int | None = limited(16, 1, 100_000)
    momentum: float = limited(0.9, 0, 0.999999)
    weight_decay: float = limited(1e-4, 0, 100)
    norm_weight_decay: float = limited(0.0, 0, 100)
    schedule: Literal["steps", "cosine"] = "steps"
    # Of the steps schedule: iterations, or below 1 shares of all of them.
    milestones: tuple[int | float, ...] = limited((60_000, 80_000), 0, MOST, fewest=0, most=1000)
    gamma: float = limited(0.1, 1e-9, 100)
    warmup_iterations: int | float = limited(1000, 0, MOST)  # or below 1 a share of all iterations
    warmup_factor: float = limited(0.001, 0, 1)
    clip_gradient_norm: float | None = limited(None, 1e-9, 1e9)
    # Patterns of names of parameters, or of parts, that are not trained: [backbone, rpn.conv, "*.norm?.*"]
    freeze: tuple[str, ...] = ()
    class_weights: Any = None  # in the head's loss, by class name: {WBC: 2, Platelets: 3}; other classes have 1
    # auto: bfloat16 autocast on a GPU that has it, else float32; float32 uses no TF32 on a GPU, tf32 does
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    # Exponential moving average of the weights, e.g. 0.999; evaluated and saved instead.
    ema_decay: float | None = limited(None, 1e-6, 0.9999999)
    seed: int = limited(0, 0, 2**63 - 1)
    log_every: int = limited(20, 1, MOST)
    evaluate_every: int | float = limited(5000, 0, MOST)  # 0: only at the end; below 1 a share of all iterations
    validation_loss: bool = True  # the four losses on the val split beside its AP
    patience: int | None = limited(None, 1, MOST)  # stop after this many evaluations without a better AP
    save_every: int = limited(5000, 1, MOST)
    keep_checkpoints: int = limited(3, 2, 10_000)
    max_skipped_steps: int = limited(10, 0, MOST)  # consecutive non-finite steps before the run stops
    sample_pictures: int = limited(8, 0, 1000)  # pictures of detections beside ground truth, drawn at every evaluation
    tensorboard: bool = True
    trackers: tuple[Literal["wandb", "mlflow"], ...] = ()  # services that get the curves too; to be installed apart

    def __post_init__(self) -> None:
        check_limits(self, "train.")
        require(list(self.milestones) == sorted(self.milestones), "train.milestones must ascend.")


@dataclass(frozen=True)
class Config:
    """All settings of one run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    input: InputConfig = field(default_factory=InputConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
