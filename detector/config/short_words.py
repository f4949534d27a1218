"""Short words for settings, as other frameworks spell them: `lr=0.01` is `train.learning_rate=0.01`."""

from collections.abc import Mapping
from typing import Any

from detector.config.limits import ConfigError

# Each short word and the settings that it stands for. imgsz is the longest edge, as its name is used elsewhere: with
# the shortest edge of the same length, the longest one decides.
SHORT_WORDS: Mapping[str, tuple[str, ...]] = {
    "epochs": ("train.epochs",),
    "batch": ("train.batch_size",),
    "lr": ("train.learning_rate",),
    "imgsz": ("input.min_size_train", "input.max_size_train", "input.min_size_test", "input.max_size_test"),
}
_LISTS = ("input.min_size_train",)

# Words that people know from elsewhere, and what they are here.
_MEANT: Mapping[str, str] = {
    "batchsize": "batch=",
    "bs": "batch=",
    "batch_size": "train.batch_size=",
    "ims_per_batch": "train.batch_size=",
    "epoch": "epochs=",
    "max_epochs": "epochs=",
    "num_epochs": "epochs=",
    "iters": "train.iterations=",
    "max_iter": "train.iterations=",
    "steps": "train.milestones= or train.iterations=",
    "lr0": "lr=",
    "base_lr": "lr=",
    "learning_rate": "lr=",
    "wd": "train.weight_decay=",
    "img": "imgsz=",
    "imgs": "imgsz=",
    "img_size": "imgsz=",
    "image_size": "imgsz=",
    "size": "imgsz=",
    "resolution": "imgsz=",
    "workers": "data.num_workers=",
    "nc": "model.num_classes=",
    "warmup": "train.warmup_iterations=",
    "warmup_epochs": "train.warmup_iterations= (below 1 a share of all iterations)",
    "cos_lr": "train.schedule=cosine",
    "lr_scheduler": "train.schedule=",
    "grad_accum": "train.accumulate=",
    "gradient_accumulation": "train.accumulate=",
    "clip": "train.clip_gradient_norm=",
    "optimizer": "train.momentum= (SGD is the only one)",
    "ema": "train.ema_decay=",
    "early_stopping": "train.patience=",
    "cls_weights": "train.class_weights=",
    "conf": "model.detection.score_threshold=",
    "iou": "model.detection.nms_threshold=",
    "max_det": "model.detection.max_per_image=",
    "fliplr": "data.augment.horizontal_flip=",
    "flipud": "data.augment.vertical_flip=",
    "augment": "data.augment.horizontal_flip= or another of data.augment",
    "wandb": "train.trackers=[wandb]",
    "mlflow": "train.trackers=[mlflow]",
    "amp": "train.precision=bfloat16 or train.precision=float16",
    "fp16": "train.precision=float16",
    "half": "train.precision=float16",
    "bf16": "train.precision=bfloat16",
    "flip": "data.augment.horizontal_flip=",
    "anchors": "model.rpn.anchor_sizes=",
    "save_period": "train.save_every=",
    "dataset": "data=",
    "weights": "--weights",
    "pretrained": "--weights",
    "checkpoint": "--weights",
    "output": "--output",
    "output_dir": "--output",
    "project": "--output",
    "name": "--output",
    "device": "--device",
    "resume": "--resume",
    "config": "--config",
    "cfg": "--config",
}


def expand(key: str, value: Any) -> dict[str, Any]:
    """The settings that a key stands for, with their values; a setting's own name stands for itself.

    Raises:
        ConfigError: the key is a word of other frameworks; the message says what it is here.
    """
    if key in SHORT_WORDS:
        return {name: (value,) if name in _LISTS else value for name in SHORT_WORDS[key]}
    if key == "model" and isinstance(value, str):
        raise ConfigError(f"command line: model={value}: weights to start from are given with --weights.")
    if key.lower() in _MEANT:
        raise ConfigError(f"command line: there is no setting {key}; did you mean {_MEANT[key.lower()]}?")
    return {key: value}
