"""Every setting of the project as typed, frozen dataclasses.

The defaults are those of the lineage whose ResNet-101-C4 reached 41.1 AP on COCO val2017 (detectron2's
`faster_rcnn_R_101_C4_3x`); where other lineages differ, the field's comment says so. `__post_init__` checks what a
single value can get wrong and raises `ConfigError` naming the key and the remedy.
"""

from dataclasses import dataclass, field
from typing import Literal

from detector.errors import UserError


class ConfigError(UserError):
    """A setting is unknown, of the wrong type, or out of range. The message is one sentence for the user."""


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True)
class BackboneConfig:
    """ResNet conv1 … conv5_x (ResNet paper, table 1)."""

    depth: int = 101  # 18, 34: basic blocks; 50, 101, 152: bottlenecks
    stem_channels: int = 64
    width: int = 64  # channels of the first 3×3 convolution of conv2_x; doubles with every stage
    norm: Literal["frozen_batch", "batch", "group"] = "frozen_batch"
    conv5_norm: Literal["frozen_batch", "batch", "group"] | None = None  # of conv5_x; null: as `norm`
    stride_in_1x1: bool = True  # MSRA and detectron2 put a bottleneck's stride in the 1×1, torchvision in the 3×3
    freeze_stages: int = 2  # 0: train everything; 1: freeze conv1; 2: conv1 and conv2_x; … 4: conv1 … conv4_x
    weights: str | None = None  # ImageNet weights to start from: a path or a published name
    weights_channels: Literal["rgb", "bgr"] = "rgb"  # of the file's conv1, where its format does not say (Caffe: bgr)

    def __post_init__(self) -> None:
        _check(
            self.depth in (18, 34, 50, 101, 152),
            f"model.backbone.depth={self.depth}: choose 18, 34, 50, 101 or 152.",
        )
        _check(
            0 <= self.freeze_stages <= 4,
            "model.backbone.freeze_stages: choose 0 (none) to 4 (conv1 … conv4_x).",
        )
        _check(
            self.stem_channels > 0 and self.width > 0,
            "model.backbone: stem_channels and width must be positive.",
        )


@dataclass(frozen=True)
class RPNConfig:
    """Region proposal network (Faster R-CNN §3.1)."""

    anchor_sizes: tuple[float, ...] = (32.0, 64.0, 128.0, 256.0, 512.0)  # square roots of the areas, in pixels
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height / width
    anchor_offset: float = 0.0  # centre of the first anchor, in strides; 0.5 puts it on the cell's middle
    anchor_rounding: bool = False  # torchvision and py-faster-rcnn round base anchors to whole pixels
    channels: int | None = None  # of the 3×3 convolution; null: as many as the feature map has
    delta_weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    positive_iou: float = 0.7
    negative_iou: float = 0.3
    batch_size_per_image: int = 256
    positive_fraction: float = 0.5
    smooth_l1_beta: float = 0.0  # 0 is plain L1; py-faster-rcnn and torchvision use 1/9
    pre_nms_top_n_train: int = 12000
    pre_nms_top_n_test: int = 6000
    post_nms_top_n_train: int = 2000
    post_nms_top_n_test: int = 1000
    nms_threshold: float = 0.7
    min_size: float = 0.0  # proposals must be larger than this in width and height, in input pixels

    def __post_init__(self) -> None:
        _check(
            len(self.anchor_sizes) > 0 and min(self.anchor_sizes) > 0,
            "model.rpn.anchor_sizes must be positive.",
        )
        _check(
            len(self.anchor_ratios) > 0 and min(self.anchor_ratios) > 0,
            "model.rpn.anchor_ratios must be positive.",
        )
        _check(
            0 <= self.negative_iou <= self.positive_iou <= 1,
            "model.rpn: 0 ≤ negative_iou ≤ positive_iou ≤ 1 must hold.",
        )
        _check(0 < self.positive_fraction <= 1, "model.rpn.positive_fraction must lie in (0, 1].")
        _check(self.batch_size_per_image > 0, "model.rpn.batch_size_per_image must be positive.")
        for name in ("pre_nms_top_n_train", "pre_nms_top_n_test", "post_nms_top_n_train", "post_nms_top_n_test"):
            _check(getattr(self, name) > 0, f"model.rpn.{name} must be positive.")
        _check(self.channels is None or self.channels > 0, "model.rpn.channels must be positive or null.")
        _check(0 <= self.nms_threshold <= 1, "model.rpn.nms_threshold must lie in [0, 1].")
        _check(
            self.smooth_l1_beta >= 0 and self.min_size >= 0,
            "model.rpn.smooth_l1_beta and min_size must be 0 or positive.",
        )
        _check(min(self.delta_weights) > 0, "model.rpn.delta_weights must be positive.")


@dataclass(frozen=True)
class RoIConfig:
    """Per-region pooling, targets and head (Fast R-CNN §2; ResNet paper, appendix A)."""

    pooling: Literal["align", "pool"] = "align"  # RoIAlign (Mask R-CNN §3) or RoIPool (Fast R-CNN §2.1)
    pooled_size: int = 14
    sampling_ratio: int = 0  # RoIAlign samples per bin and axis; 0: as many as the bin has feature cells
    aligned: bool = True  # half-pixel shift of RoIAlign; torchvision's detectors use false
    batch_size_per_image: int = 512
    positive_fraction: float = 0.25
    positive_iou: float = 0.5
    delta_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    smooth_l1_beta: float = 0.0

    def __post_init__(self) -> None:
        _check(self.pooled_size > 0, "model.roi.pooled_size must be positive.")
        _check(0 < self.positive_fraction <= 1, "model.roi.positive_fraction must lie in (0, 1].")
        _check(0 < self.positive_iou <= 1, "model.roi.positive_iou must lie in (0, 1].")
        _check(self.batch_size_per_image > 0, "model.roi.batch_size_per_image must be positive.")
        _check(min(self.delta_weights) > 0, "model.roi.delta_weights must be positive.")
        _check(self.sampling_ratio >= 0, "model.roi.sampling_ratio must be 0 (adaptive) or positive.")
        _check(self.smooth_l1_beta >= 0, "model.roi.smooth_l1_beta must be 0 (plain L1) or positive.")


@dataclass(frozen=True)
class DetectionConfig:
    """From class scores and deltas to detections."""

    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    max_per_image: int = 100
    min_size: float = 0.0  # detections at least this wide and high enter NMS, input pixels; torchvision uses 0.01

    def __post_init__(self) -> None:
        _check(0 <= self.score_threshold <= 1, "model.detection.score_threshold must lie in [0, 1].")
        _check(0 <= self.nms_threshold <= 1, "model.detection.nms_threshold must lie in [0, 1].")
        _check(self.max_per_image > 0, "model.detection.max_per_image must be positive.")
        _check(self.min_size >= 0, "model.detection.min_size must be 0 or positive.")


@dataclass(frozen=True)
class ModelConfig:
    """The network. `num_classes` counts foreground classes; null takes it from the dataset's categories."""

    num_classes: int | None = None
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    rpn: RPNConfig = field(default_factory=RPNConfig)
    roi: RoIConfig = field(default_factory=RoIConfig)
    detection: DetectionConfig = field(default_factory=DetectionConfig)
    weights: str | None = None  # start from this detector: a path or a published name; its head is re-made if it must

    def __post_init__(self) -> None:
        _check(self.num_classes is None or self.num_classes > 0, "model.num_classes must be positive or null.")


@dataclass(frozen=True)
class InputConfig:
    """How a picture becomes network input. Pixels are RGB, 0 to 255, throughout."""

    pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    pixel_std: tuple[float, float, float] = (1.0, 1.0, 1.0)  # torchvision's weights want (58.395, 57.12, 57.375)
    min_size_train: tuple[int, ...] = (640, 672, 704, 736, 768, 800)  # shortest edge, chosen at random per image
    max_size_train: int = 1333
    min_size_test: int = 800  # 0 leaves pictures at their own size
    max_size_test: int = 1333
    resize: Literal["pil", "torchvision"] = "pil"  # 8-bit antialiased bilinear, or torchvision's float bilinear
    pad_to_multiple: int = 1  # of the batch's height and width; torchvision uses 32

    def __post_init__(self) -> None:
        _check(len(self.min_size_train) > 0, "input.min_size_train must not be empty.")
        _check(min(self.min_size_train) >= 0, "input.min_size_train must be 0 (keep the size) or positive.")
        _check(self.min_size_test >= 0, "input.min_size_test must be 0 (keep the size) or positive.")
        _check(
            self.max_size_train > 0 and self.max_size_test > 0,
            "input.max_size_train and _test must be positive.",
        )
        _check(min(self.pixel_std) > 0, "input.pixel_std must be positive.")
        _check(self.pad_to_multiple > 0, "input.pad_to_multiple must be positive.")


@dataclass(frozen=True)
class AugmentConfig:
    """Train-time augmentation beyond the multi-scale resize of `input.min_size_train`; boxes move with the image."""

    horizontal_flip: float = 0.5  # probability
    vertical_flip: float = 0.0
    crop: float = 0.0  # probability of a random crop that keeps at least one box centre
    crop_min_scale: float = 0.5  # smallest crop edge, as a fraction of the image's
    color_jitter: float = 0.0  # probability
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.02

    def __post_init__(self) -> None:
        for name in ("horizontal_flip", "vertical_flip", "crop", "color_jitter"):
            _check(0 <= getattr(self, name) <= 1, f"data.augment.{name} is a probability: choose 0 to 1.")
        for name in ("brightness", "contrast", "saturation"):
            _check(getattr(self, name) >= 0, f"data.augment.{name} must be 0 or positive.")
        _check(0 <= self.hue <= 0.5, "data.augment.hue must lie in [0, 0.5].")
        _check(0 < self.crop_min_scale <= 1, "data.augment.crop_min_scale must lie in (0, 1].")


@dataclass(frozen=True)
class DataConfig:
    """Datasets. Relative paths start at the project root (the folder of pyproject.toml)."""

    format: Literal["coco", "voc", "yolo"] = "coco"
    generate: Literal["shapes"] | None = None  # render the embedded set when its files are missing
    train_annotations: str | None = None
    train_images: str | None = None
    val_annotations: str | None = None
    val_images: str | None = None
    keep_empty_images: bool = True  # train on pictures without objects too; detectron2 leaves them out
    drop_degenerate_boxes: bool = True  # drop boxes without area, counted in the log; false: stop and name them
    skip_unreadable_images: bool = True  # train on another one, named in the log; false: stop at the first
    aspect_grouping: bool = True  # batches hold only wide or only tall pictures, so padding stays small
    num_workers: int = 2
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        _check(self.num_workers >= 0, "data.num_workers must be 0 (load in the main process) or positive.")


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation, schedule, and what is written when. An iteration is one optimizer step."""

    iterations: int = 90_000
    batch_size: int = 16  # pictures per optimizer step, over all processes and accumulated micro-batches together
    accumulate: int = 1  # split each process's share of the batch into this many forward and backward passes
    learning_rate: float = 0.02
    reference_batch_size: int | None = 16  # learning_rate is meant for this batch and scaled linearly; null: as it is
    momentum: float = 0.9
    weight_decay: float = 1e-4
    norm_weight_decay: float = 0.0
    schedule: Literal["steps", "cosine"] = "steps"
    milestones: tuple[int, ...] = (60_000, 80_000)
    gamma: float = 0.1
    warmup_iterations: int = 1000
    warmup_factor: float = 0.001
    clip_gradient_norm: float | None = None
    # auto: bfloat16 autocast on a GPU that has it, else float32; float32 uses no TF32 on a GPU, tf32 does
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    ema_decay: float | None = None  # exponential moving average of the weights, e.g. 0.999; evaluated and saved instead
    seed: int = 0
    log_every: int = 20
    evaluate_every: int = 5000  # 0: only at the end
    validation_loss: bool = True  # the four losses on the val split beside its AP
    patience: int | None = None  # stop after this many evaluations without a better AP
    save_every: int = 5000
    keep_checkpoints: int = 3
    max_skipped_steps: int = 10  # consecutive non-finite steps before the run stops
    sample_pictures: int = 8  # pictures of detections beside ground truth, drawn at every evaluation
    tensorboard: bool = True

    def __post_init__(self) -> None:
        _check(self.iterations > 0, "train.iterations must be positive.")
        _check(self.batch_size > 0, "train.batch_size must be positive.")
        _check(self.accumulate > 0, "train.accumulate must be positive.")
        _check(self.learning_rate > 0, "train.learning_rate must be positive.")
        _check(
            self.reference_batch_size is None or self.reference_batch_size > 0,
            "train.reference_batch_size must be positive, or null to leave the learning rate as it is.",
        )
        _check(0 <= self.momentum < 1, "train.momentum must lie in [0, 1).")
        _check(
            self.weight_decay >= 0 and self.norm_weight_decay >= 0,
            "train.weight_decay and norm_weight_decay must be 0 or positive.",
        )
        _check(self.gamma > 0, "train.gamma must be positive.")
        _check(0 <= self.warmup_factor <= 1, "train.warmup_factor must lie in [0, 1].")
        _check(self.patience is None or self.patience > 0, "train.patience must be positive or null.")
        _check(list(self.milestones) == sorted(self.milestones), "train.milestones must ascend.")
        _check(self.ema_decay is None or 0 < self.ema_decay < 1, "train.ema_decay must lie in (0, 1) or be null.")
        _check(
            self.clip_gradient_norm is None or self.clip_gradient_norm > 0,
            "train.clip_gradient_norm must be positive or null.",
        )
        _check(
            self.keep_checkpoints >= 2,
            "train.keep_checkpoints: keep at least 2, so that one torn file loses nothing.",
        )
        _check(
            self.log_every > 0 and self.save_every > 0,
            "train.log_every and train.save_every must be positive.",
        )
        _check(self.evaluate_every >= 0, "train.evaluate_every must be 0 (only at the end) or positive.")
        _check(self.warmup_iterations >= 0, "train.warmup_iterations must be 0 or positive.")
        _check(self.max_skipped_steps >= 0, "train.max_skipped_steps must be 0 or positive.")
        _check(self.sample_pictures >= 0, "train.sample_pictures must be 0 (none) or positive.")
        _check(self.seed >= 0, "train.seed must be 0 or positive.")


@dataclass(frozen=True)
class Config:
    """All settings of one run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    input: InputConfig = field(default_factory=InputConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
