"""Every setting of the project as typed, frozen dataclasses.

The defaults are those of the lineage whose ResNet-101-C4 reached 41.1 AP on COCO val2017 (detectron2's
`faster_rcnn_R_101_C4_3x`); where other lineages differ, the field's comment says so, and where FPN and DC5 do,
`network.KIND_DEFAULTS`.

`limited(default, smallest, largest)` bounds every number, for settings also come in weights files, which anybody may
have made: the limits lie beyond all use that is known, and below what would fill the memory or take for ever.
`__post_init__` raises `ConfigError` naming the key, the value and what to choose.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from detector.config.limits import check_limits, limited, require
from detector.config.network import ModelConfig

MOST = 10**9  # iterations and what is counted in them


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
    require_objects: bool = True  # refuse to train where no picture has an object; false: on such pictures alone
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
    # auto: bfloat16 autocast on a GPU that has it, float16 with a loss scale on an older GPU, float32 elsewhere.
    # float32 uses no TF32 on a GPU, tf32 does. bfloat16 is float32 on a CPU without kernels for it.
    precision: Literal["auto", "float32", "tf32", "bfloat16", "float16"] = "auto"
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
    # Pictures of detections beside ground truth, drawn at every evaluation; half of them the worst.
    sample_pictures: int = limited(8, 0, 1000)
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
