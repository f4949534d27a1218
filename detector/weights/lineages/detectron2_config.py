"""detectron2's settings ↔ ours. What has no counterpart here is refused by name, or is ignored on purpose by name."""

import logging
from collections.abc import Mapping
from typing import Any

from detector.config import Config, config_from_dict
from detector.config.network import PYRAMID_LEVELS
from detector.errors import UserError, shown
from detector.model.blocks import Bottleneck
from detector.model.resnet import BASIC_BLOCK_DEPTHS
from detector.weights.lineages.detectron2_keys import (
    AUGMENTATION,
    BOX_HEAD,
    BOX_HEAD_NAME,
    FLIPS,
    FPN_PADDING,
    IGNORED,
    NORMS,
    NORMS_OR_NONE,
    OF_TRAINING,
    ONLY,
    OTHER_BRANCHES,
    POOLERS,
    SAME,
    SCHEDULES,
    STRUCTURE,
    Kind,
)
from detector.weights.lineages.detectron2_settings import DEFAULTS, Settings, nested

log = logging.getLogger(__name__)


def config_to_detect(settings: Settings, source: str, boxes_only: bool = False) -> Config:
    """`config_from_detectron2` for detection, which settings of training alone cannot prevent.

    Those that cannot be honoured are left out, and the log names them with their values.

    Raises:
        UserError: as `config_from_detectron2`, about the other settings.
    """
    problems, _ = _translated(settings, boxes_only)
    void = [problem for problem in problems if problem.startswith(OF_TRAINING)]
    kept = {key: v for key, v in settings.items() if not any(problem.startswith(f"{key}=") for problem in void)}
    try:
        config = config_from_detectron2(kept, source, boxes_only)
    except UserError as error:  # also of numbers that training here cannot have, such as no iterations at all
        kept = {key: value for key, value in settings.items() if not key.startswith(OF_TRAINING)}
        config = config_from_detectron2(kept, source, boxes_only)
        void.append(f"{str(error).removeprefix(f'{source}: ').rstrip('.')} (so all settings of training are left out)")
    if void:
        log.warning("%s: without effect, since it matters in training alone: %s", source, "; ".join(void))
    return config


def config_from_detectron2(settings: Settings, source: str, boxes_only: bool = False) -> Config:
    """Our config for a detectron2 model; settings that the file leaves out have detectron2's defaults.

    Args:
        settings: flat, as `read_settings` gives them.
        source: the file's name, for messages.
        boxes_only: of a Mask R-CNN or a Keypoint R-CNN, its box branch.

    Raises:
        UserError: one message naming every setting, with its value, that cannot be honoured or is unknown.
    """
    problems, values = _translated(settings, boxes_only)
    if problems:
        raise UserError(f"{source}: settings of detectron2 that cannot be honoured here: {'; '.join(problems)}.")
    return config_from_dict(nested(values), source)


def _translated(settings: Settings, boxes_only: bool) -> tuple[list[str], dict[str, Any]]:
    """What cannot be honoured, as `KEY=value (why)`, and our settings, which hold without it."""
    given = dict(DEFAULTS) | dict(settings)
    kind = kind_of(settings)
    allowed_only = dict(ONLY) | {key: (value,) for key, value in STRUCTURE[kind].items()}
    if kind != "c4":
        allowed_only["MODEL.ROI_BOX_HEAD.NAME"] = (BOX_HEAD_NAME,)
    if kind == "fpn":
        allowed_only["MODEL.FPN.FUSE_TYPE"] = ("sum",)
    problems = [
        f"{key}={shown(given[key])} (here only {' or '.join(repr(v) for v in allowed)})"
        for key, allowed in allowed_only.items()
        if key in given and given[key] not in allowed
    ]
    if not boxes_only:
        problems += [
            f"{key}={shown(given[key])} ({part}: --boxes-only leaves it out, and loads the box branch)"
            for key, (part, _) in OTHER_BRANCHES.items()
            if given.get(key, False) is not False
        ]
    problems += [
        f"{key}={shown(value)} (unknown)"
        for key, value in given.items()
        if key not in DEFAULTS and key not in allowed_only and not key.startswith((*OTHER_BRANCHES, *IGNORED))
    ]
    values = _Translator(given, kind, problems).translate()
    return problems, values


def kind_of(settings: Settings) -> Kind:
    """Which kind of model the settings describe: that of which most of what makes a kind is set."""

    def agreeing(kind: Kind) -> int:
        default = STRUCTURE["c4"]
        return sum(settings.get(key, default[key]) == value for key, value in STRUCTURE[kind].items())

    kinds: tuple[Kind, ...] = ("c4", "fpn", "dc5")
    return max(kinds, key=agreeing)


def channel_order(settings: Settings) -> str:
    """`BGR` or `RGB`: the order of the channels that the first convolution of the checkpoint expects."""
    order: str = settings.get("INPUT.FORMAT", DEFAULTS["INPUT.FORMAT"])
    return order


class _Translator:
    """The settings that need more than another name. What cannot be honoured is added to `problems`."""

    def __init__(self, given: Settings, kind: Kind, problems: list[str]) -> None:
        self._given = given
        self._kind = kind
        self._problems = problems

    def translate(self) -> dict[str, Any]:
        given = self._given
        values = {ours: given[theirs] for theirs, ours in SAME.items()}
        if isinstance(values["input.min_size_train"], int):
            values["input.min_size_train"] = [values["input.min_size_train"]]
        flips = self._choice("INPUT.RANDOM_FLIP", FLIPS)
        pooling = self._choice("MODEL.ROI_BOX_HEAD.POOLER_TYPE", POOLERS)
        negative_iou, positive_iou = self._numbers("MODEL.RPN.IOU_THRESHOLDS", 2)
        values |= {
            "input.pixel_mean": self._pixel("MODEL.PIXEL_MEAN"),
            "input.pixel_std": self._pixel("MODEL.PIXEL_STD"),
            "data.augment.horizontal_flip": flips[0],
            "data.augment.vertical_flip": flips[1],
            "data.keep_empty_images": not given["DATALOADER.FILTER_EMPTY_ANNOTATIONS"],
            "model.backbone.norm": self._choice("MODEL.RESNETS.NORM", NORMS),
            # In a C4 model conv5_x is in the head, beyond what detectron2 freezes.
            "model.backbone.freeze_stages": min(
                self._whole("MODEL.BACKBONE.FREEZE_AT"), 4 if self._kind == "c4" else 5
            ),
            "model.rpn.anchor_sizes": self._anchor_sizes(),
            "model.rpn.anchor_ratios": self._one_level("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"),
            "model.rpn.negative_iou": negative_iou,
            "model.rpn.positive_iou": positive_iou,
            "model.roi.positive_iou": self._numbers("MODEL.ROI_HEADS.IOU_THRESHOLDS", 1)[0],
            "model.roi.pooling": pooling[0],
            "model.roi.aligned": pooling[1],
            "train.schedule": self._choice("SOLVER.LR_SCHEDULER_NAME", SCHEDULES),
            "train.precision": "bfloat16" if given["SOLVER.AMP.ENABLED"] else "float32",
            "train.reference_batch_size": given["SOLVER.IMS_PER_BATCH"],
        }
        if given.get("TEST.AUG.ENABLED"):
            values["model.detection.augment.form"] = "detectron2"
            values |= {ours: given[theirs] for theirs, ours in AUGMENTATION.items() if theirs in given}
        if self._whole("SEED") >= 0:
            values["train.seed"] = given["SEED"]
        values |= self._of_kind() | self._resnet() | self._rpn_convs()
        if given["SOLVER.WEIGHT_DECAY_BIAS"] not in (None, given["SOLVER.WEIGHT_DECAY"]):
            self._refuse("SOLVER.WEIGHT_DECAY_BIAS", "here only that of the weights")
        if self._whole("TEST.DETECTIONS_PER_IMAGE") < 1:
            self._refuse("TEST.DETECTIONS_PER_IMAGE", "here a positive limit")
        return values

    def _of_kind(self) -> dict[str, Any]:
        values: dict[str, Any] = {"model.kind": self._kind}
        if self._kind != "c4":
            values |= {ours: self._given[theirs] for theirs, ours in BOX_HEAD.items()}
            values["model.roi.conv_norm"] = self._choice("MODEL.ROI_BOX_HEAD.NORM", NORMS_OR_NONE)
        if self._kind == "fpn":
            values |= {
                "input.pad_to_multiple": FPN_PADDING,
                "model.fpn.channels": self._given["MODEL.FPN.OUT_CHANNELS"],
                "model.fpn.norm": self._choice("MODEL.FPN.NORM", NORMS_OR_NONE),
            }
        return values

    def _resnet(self) -> dict[str, Any]:
        """Widths; theirs are those of a bottleneck's 3×3 convolution and of conv2_x's output."""
        basic = self._given["MODEL.RESNETS.DEPTH"] in BASIC_BLOCK_DEPTHS
        if basic and self._kind != "fpn":
            self._refuse("MODEL.RESNETS.DEPTH", "a C4 or DC5 model of detectron2 has 50, 101 or 152")
        outputs, per_group = (self._whole(f"MODEL.RESNETS.{key}") for key in ("RES2_OUT_CHANNELS", "WIDTH_PER_GROUP"))
        expansion = 1 if basic else Bottleneck.expansion
        width = outputs // expansion
        if width * expansion != outputs or width < 1:
            self._refuse("MODEL.RESNETS.RES2_OUT_CHANNELS", f"here a multiple of {expansion}, and not 0")
        as_usual = basic or self._whole("MODEL.RESNETS.NUM_GROUPS") * per_group == width
        return {
            "model.backbone.width": max(width, 1),
            "model.backbone.width_per_group": None if as_usual else per_group,
        }

    def _rpn_convs(self) -> dict[str, Any]:
        dims = self._given["MODEL.RPN.CONV_DIMS"]
        if not isinstance(dims, list) or not dims or not all(isinstance(d, int) and d == dims[0] for d in dims):
            self._refuse("MODEL.RPN.CONV_DIMS", "here one number, or several that are the same")
            return {}
        return {"model.rpn.channels": dims[0] if dims[0] > 0 else None, "model.rpn.conv_layers": len(dims)}

    def _pixel(self, key: str) -> list[float]:
        """Three numbers in RGB order."""
        values = self._numbers(key, 3)
        if self._given["INPUT.FORMAT"] not in ("BGR", "RGB"):
            self._refuse("INPUT.FORMAT", "here BGR or RGB")
        return values[::-1] if self._given["INPUT.FORMAT"] == "BGR" else values

    def _anchor_sizes(self) -> list[float]:
        """Of all levels, one after the other; theirs is a list for each, or one for all."""
        key = "MODEL.ANCHOR_GENERATOR.SIZES"
        if self._kind != "fpn":
            return self._one_level(key)
        levels = self._given[key]
        if not isinstance(levels, list) or not all(isinstance(level, list) and level for level in levels):
            levels = []
        if len(levels) == 1:
            levels = levels * PYRAMID_LEVELS
        if len(levels) != PYRAMID_LEVELS or len({len(level) for level in levels}) != 1:
            self._refuse(key, f"here a list for each of {PYRAMID_LEVELS} levels, all of one length, or one for all")
            return [1.0] * PYRAMID_LEVELS
        return [size for level in levels for size in level]

    def _one_level(self, key: str) -> list[float]:
        levels = self._given[key]
        is_list = isinstance(levels, list) and len(levels) > 0 and all(isinstance(level, list) for level in levels)
        most = PYRAMID_LEVELS if self._kind == "fpn" else 1
        if not is_list or len(levels) not in (1, most) or any(level != levels[0] for level in levels):
            self._refuse(key, "here one list in a list" + (", or the same for each level" if most > 1 else ""))
            return [1.0]
        level: list[float] = levels[0]
        return level

    def _numbers(self, key: str, count: int) -> list[float]:
        values = self._given[key]
        if not isinstance(values, list) or len(values) != count or not all(isinstance(v, int | float) for v in values):
            self._refuse(key, f"here {count} numbers")
            return [1.0] * count
        return values

    def _whole(self, key: str) -> int:
        value = self._given[key]
        if not isinstance(value, int):
            self._refuse(key, "here a whole number")
            return 1
        return value

    def _choice(self, key: str, choices: Mapping[str, Any]) -> Any:
        value = self._given[key]
        if not isinstance(value, str) or value not in choices:
            self._refuse(key, f"here {', '.join(choices)}")
            return next(iter(choices.values()))
        return choices[value]

    def _refuse(self, key: str, why: str) -> None:
        problem = f"{key}={shown(self._given[key])} ({why})"
        if problem not in self._problems:
            self._problems.append(problem)
