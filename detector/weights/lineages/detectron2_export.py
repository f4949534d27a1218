"""Write our detector, of whatever kind, as a detectron2 checkpoint with its config, so that nobody is locked in.

The inverse of `detectron2_tensors` and `detectron2_config`, bit for bit. Channels are written in detectron2's BGR.
"""

import dataclasses
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from detector.categories import CategoryMap
from detector.config import Config, ModelConfig, config_to_dict, flatten
from detector.config.network import PYRAMID_LEVELS
from detector.disk import write_atomically
from detector.errors import UserError
from detector.model.blocks import NORM_EPS, Bottleneck
from detector.model.resnet import BASIC_BLOCK_DEPTHS
from detector.weights.lineages.detectron2_keys import (
    AUGMENTATION,
    BOX_HEAD,
    BOX_HEAD_NAME,
    FLIPS,
    FPN_PADDING,
    NORMS,
    NORMS_OR_NONE,
    POOLERS,
    SAME,
    SCHEDULES,
    STRUCTURE,
)
from detector.weights.lineages.detectron2_settings import write_settings
from detector.weights.lineages.detectron2_tensors import renames_of
from detector.weights.remap import reverse_channels, translate
from detector.weights.state_layout import CLS_SCORE, conv1_name
from detector.weights.untrusted.foreign_file import CATEGORIES_KEY

# Settings whose other values would change detections, and which detectron2 has only with this one.
DETECTION_ONLY: Mapping[str, Any] = {
    "input.resize": "pil",
    "model.backbone.norm_eps": NORM_EPS,
    "model.backbone.shrinkage": None,
    "model.roi.global_context": False,
    "model.detection.merge": "nms",
    "model.detection.min_size": 0.0,
    "model.detection.nms_frame": "input",
    "model.detection.refine_passes": 0,
    "model.detection.voting_threshold": None,
    "model.roi.limit_shrinking": False,
    "model.rpn.anchor_order": "size",
    "model.rpn.anchor_rounding": False,
    "model.rpn.limit_shrinking": False,
    "model.rpn.rank_by": "logit",
}
# The same of a feature pyramid.
PYRAMID_ONLY: Mapping[str, Any] = {
    "model.roi.level_rule": "detectron2",
    "model.rpn.anchor_strides": "nominal",
}
# The same of its test-time augmentation.
VIEWS_ONLY: Mapping[str, Any] = {
    "model.detection.augment.resize_first": True,
    "model.detection.augment.vertical_flip": False,
}
# The same of training; another value is reported, since the written model detects alike.
TRAINING_ONLY: Mapping[str, Any] = {
    "data.augment.color_jitter": 0.0,
    "data.augment.crop": 0.0,
    "model.roi.train_refinement": False,
    "model.rpn.normalize_by": "batch_size",
    "train.clip_gradient_norm": None,
    "train.ema_decay": None,
}


def to_detectron2(
    state_dict: Mapping[str, Tensor], config: Config, categories: CategoryMap
) -> tuple[dict[str, Tensor], str]:
    """Convert our detector.

    Args:
        state_dict: complete, ours.
        config: of the same model.
        categories: their number is checked; detectron2 keeps names in its catalogue and not in the config.

    Returns:
        detectron2's state dict, and its config as YAML text.

    Raises:
        UserError: one message naming every setting that detectron2 has no counterpart for.
    """
    settings = settings_from_config(config)
    assert len(categories) == config.model.num_classes, "categories do not fit the config"
    table = translate(state_dict, renames_of(config.model))
    values = dict(state_dict)
    conv1 = conv1_name(values)
    values[conv1] = reverse_channels(values[conv1])
    for name in CLS_SCORE:
        values[name] = values[name].roll(-1, dims=0)  # the background is our first row and their last
    return {table[name]: tensor for name, tensor in values.items()}, write_settings(settings)


def settings_from_config(config: Config) -> dict[str, Any]:
    """detectron2's settings, flat, that make the same model and training; `config_from_detectron2` reads them back.

    Settings that have no counterpart here, and new ones that older versions do not know, are left at their defaults.

    Raises:
        UserError: one message naming every setting that would change detections and has no counterpart there.
    """
    values = flatten(config_to_dict(config))
    kind = config.model.kind
    only = {"input.pad_to_multiple": FPN_PADDING if kind == "fpn" else 1, **DETECTION_ONLY}
    only |= PYRAMID_ONLY if kind == "fpn" else {}
    problems = [f"{key}={values[key]}" for key, value in only.items() if values[key] != value]
    if values["model.backbone.depth"] in BASIC_BLOCK_DEPTHS and kind != "fpn":
        problems.append(f"model.backbone.depth={values['model.backbone.depth']}")
    if config.model.backbone.conv5_norm not in (None, config.model.backbone.norm):
        problems.append(f"model.backbone.conv5_norm={config.model.backbone.conv5_norm}")
    form = config.model.detection.augment.form
    if form not in (None, "detectron2"):
        problems.append(f"model.detection.augment.form={form}")
    if form == "detectron2":
        problems += [f"{key}={values[key]}" for key, value in VIEWS_ONLY.items() if values[key] != value]
    pooler = _key_of(POOLERS, (values["model.roi.pooling"], values["model.roi.aligned"]), "ROIPool")
    if problems:
        raise UserError(f"detectron2 has no counterpart for {', '.join(problems)}.")
    horizontal, vertical = values["data.augment.horizontal_flip"], values["data.augment.vertical_flip"]
    train = config.train
    expansion = 1 if values["model.backbone.depth"] in BASIC_BLOCK_DEPTHS else Bottleneck.expansion
    scale = train.batch_size / (train.reference_batch_size or train.batch_size)
    settings = {theirs: values[ours] for theirs, ours in SAME.items()}
    settings |= {
        "DATALOADER.FILTER_EMPTY_ANNOTATIONS": not values["data.keep_empty_images"],
        "INPUT.FORMAT": "BGR",
        "INPUT.RANDOM_FLIP": _key_of(FLIPS, (horizontal, vertical), "horizontal"),
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [values["model.rpn.anchor_ratios"]],
        "MODEL.ANCHOR_GENERATOR.SIZES": _levels(values["model.rpn.anchor_sizes"], kind),
        "MODEL.BACKBONE.FREEZE_AT": values["model.backbone.freeze_stages"],
        "MODEL.PIXEL_MEAN": values["input.pixel_mean"][::-1],
        "MODEL.PIXEL_STD": values["input.pixel_std"][::-1],
        "MODEL.RESNETS.NORM": _key_of(NORMS, values["model.backbone.norm"], "FrozenBN"),
        "MODEL.RESNETS.RES2_OUT_CHANNELS": expansion * values["model.backbone.width"],
        "MODEL.RESNETS.WIDTH_PER_GROUP": values["model.backbone.width_per_group"]
        or values["model.backbone.width"] // values["model.backbone.groups"],
        "MODEL.ROI_BOX_HEAD.POOLER_TYPE": pooler,
        "MODEL.ROI_HEADS.IOU_THRESHOLDS": [values["model.roi.positive_iou"]],
        "MODEL.RPN.IOU_THRESHOLDS": [values["model.rpn.negative_iou"], values["model.rpn.positive_iou"]],
        "SEED": values["train.seed"],
        "SOLVER.BASE_LR": train.learning_rate * scale,
        "SOLVER.LR_SCHEDULER_NAME": _key_of(SCHEDULES, values["train.schedule"], "WarmupMultiStepLR"),
        "VERSION": 2,
    }
    settings |= _of_kind(config.model)
    rpn = config.model.rpn
    if rpn.channels is not None or rpn.conv_layers > 1:
        settings["MODEL.RPN.CONV_DIMS"] = [rpn.channels or -1] * rpn.conv_layers
    if form == "detectron2":
        settings["TEST.AUG.ENABLED"] = True
        given = {theirs: values[ours] for theirs, ours in AUGMENTATION.items()}
        settings |= {theirs: value for theirs, value in given.items() if value not in (None, [])}
    if train.precision in ("bfloat16", "float16"):
        settings["SOLVER.AMP.ENABLED"] = True
    return settings


def _of_kind(model: ModelConfig) -> dict[str, Any]:
    """What makes the kind of model; of a C4 one detectron2's defaults already do."""
    if model.kind == "c4":
        return {}
    values = flatten(dataclasses.asdict(model), "model.")
    settings = {**STRUCTURE[model.kind], **{theirs: values[ours] for theirs, ours in BOX_HEAD.items()}}
    settings |= {
        "MODEL.ROI_BOX_HEAD.NAME": BOX_HEAD_NAME,
        "MODEL.ROI_BOX_HEAD.NORM": _key_of(NORMS_OR_NONE, model.roi.conv_norm, ""),
    }
    if model.kind == "fpn":
        settings |= {
            "MODEL.FPN.OUT_CHANNELS": model.fpn.channels,
            "MODEL.FPN.NORM": _key_of(NORMS_OR_NONE, model.fpn.norm, ""),
        }
    return settings


def _levels(sizes: list[float], kind: str) -> list[list[float]]:
    """The sizes of each feature map's anchors, of which all have as many."""
    count = PYRAMID_LEVELS if kind == "fpn" else 1
    each = len(sizes) // count
    return [sizes[level * each : (level + 1) * each] for level in range(count)]


def lost_in_training(config: Config) -> list[str]:
    """Settings of training, as `key=value`, that a detectron2 config cannot say; detections do not depend on them."""
    values = flatten(config_to_dict(config))
    lost = [f"{key}={values[key]}" for key, only in TRAINING_ONLY.items() if values[key] != only]
    flips = {key: values[key] for key in ("data.augment.horizontal_flip", "data.augment.vertical_flip")}
    if tuple(flips.values()) not in FLIPS.values():
        lost += [f"{key}={value}" for key, value in flips.items()]
    return lost


def write_detectron2(
    path: Path, state_dict: Mapping[str, Tensor], config: Config, categories: CategoryMap
) -> tuple[Path, list[str]]:
    """Write a detectron2 checkpoint, `.pth` or `.pkl` as `path` ends, and its config beside it.

    The categories go into the checkpoint under a key that detectron2 does not read, and we do.

    Returns:
        The path of the config, and what of the training settings it cannot say.

    Raises:
        UserError: as `to_detectron2`, or the files cannot be written.
    """
    state, text = to_detectron2(state_dict, config, categories)
    config_path = path.with_suffix(".yaml")
    write_atomically(path, _checkpoint(state, categories, "pickle" if path.suffix == ".pkl" else "torch"))
    write_atomically(config_path, text.encode())
    return config_path, lost_in_training(config)


def _checkpoint(state: Mapping[str, Tensor], categories: CategoryMap, kind: Literal["pickle", "torch"]) -> bytes:
    extra = {CATEGORIES_KEY: categories.to_coco()}
    if kind == "pickle":
        arrays = {name: tensor.cpu().numpy() for name, tensor in state.items()}
        # detectron2 takes a pickle for its own kind only if it names an author.
        return pickle.dumps({"model": arrays, "__author__": "detector", **extra}, protocol=4)
    file = io.BytesIO()
    torch.save({"model": {name: tensor.cpu().contiguous() for name, tensor in state.items()}, **extra}, file)
    return file.getvalue()


def _key_of(choices: Mapping[str, Any], value: Any, otherwise: str) -> str:
    return next((key for key, choice in choices.items() if choice == value), otherwise)
