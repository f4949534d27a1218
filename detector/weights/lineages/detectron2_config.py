"""detectron2's settings ↔ ours. What has no counterpart here is refused by name, or is ignored on purpose by name."""

from collections.abc import Mapping
from typing import Any

from detector.config import Config, config_from_dict
from detector.errors import UserError, shown
from detector.weights.lineages.detectron2_settings import DEFAULTS, Settings, nested

# One meaning, one unit, one type: detectron2's key → ours.
SAME: Mapping[str, str] = {
    "DATALOADER.ASPECT_RATIO_GROUPING": "data.aspect_grouping",
    "DATALOADER.NUM_WORKERS": "data.num_workers",
    "INPUT.MAX_SIZE_TEST": "input.max_size_test",
    "INPUT.MAX_SIZE_TRAIN": "input.max_size_train",
    "INPUT.MIN_SIZE_TEST": "input.min_size_test",
    "INPUT.MIN_SIZE_TRAIN": "input.min_size_train",
    "MODEL.ANCHOR_GENERATOR.OFFSET": "model.rpn.anchor_offset",
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": "model.rpn.min_size",
    "MODEL.RESNETS.DEPTH": "model.backbone.depth",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": "model.backbone.stem_channels",
    "MODEL.RESNETS.STRIDE_IN_1X1": "model.backbone.stride_in_1x1",
    "MODEL.RESNETS.WIDTH_PER_GROUP": "model.backbone.width",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": "model.roi.delta_weights",
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": "model.roi.pooled_size",
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": "model.roi.sampling_ratio",
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": "model.roi.smooth_l1_beta",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": "model.roi.batch_size_per_image",
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": "model.detection.nms_threshold",
    "MODEL.ROI_HEADS.NUM_CLASSES": "model.num_classes",
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": "model.roi.positive_fraction",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "model.detection.score_threshold",
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": "model.rpn.batch_size_per_image",
    "MODEL.RPN.BBOX_REG_WEIGHTS": "model.rpn.delta_weights",
    "MODEL.RPN.NMS_THRESH": "model.rpn.nms_threshold",
    "MODEL.RPN.POSITIVE_FRACTION": "model.rpn.positive_fraction",
    "MODEL.RPN.POST_NMS_TOPK_TEST": "model.rpn.post_nms_top_n_test",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": "model.rpn.post_nms_top_n_train",
    "MODEL.RPN.PRE_NMS_TOPK_TEST": "model.rpn.pre_nms_top_n_test",
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": "model.rpn.pre_nms_top_n_train",
    "MODEL.RPN.SMOOTH_L1_BETA": "model.rpn.smooth_l1_beta",
    "SOLVER.BASE_LR": "train.learning_rate",
    "SOLVER.CHECKPOINT_PERIOD": "train.save_every",
    "SOLVER.GAMMA": "train.gamma",
    "SOLVER.IMS_PER_BATCH": "train.batch_size",
    "SOLVER.MAX_ITER": "train.iterations",
    "SOLVER.MOMENTUM": "train.momentum",
    "SOLVER.STEPS": "train.milestones",
    "SOLVER.WARMUP_FACTOR": "train.warmup_factor",
    "SOLVER.WARMUP_ITERS": "train.warmup_iterations",
    "SOLVER.WEIGHT_DECAY": "train.weight_decay",
    "SOLVER.WEIGHT_DECAY_NORM": "train.norm_weight_decay",
    "TEST.DETECTIONS_PER_IMAGE": "model.detection.max_per_image",
    "TEST.EVAL_PERIOD": "train.evaluate_every",
}

# Settings of which only these values exist here; detectron2's default is the first.
ONLY: Mapping[str, tuple[Any, ...]] = {
    "DATALOADER.SAMPLER_TRAIN": ("TrainingSampler",),
    "INPUT.CROP.ENABLED": (False,),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("choice",),
    "MODEL.ANCHOR_GENERATOR.NAME": ("DefaultAnchorGenerator",),
    "MODEL.BACKBONE.NAME": ("build_resnet_backbone",),
    "MODEL.FPN.IN_FEATURES": ([],),
    "MODEL.KEYPOINT_ON": (False,),
    "MODEL.LOAD_PROPOSALS": (False,),
    "MODEL.MASK_ON": (False,),
    "MODEL.META_ARCHITECTURE": ("GeneralizedRCNN",),
    "MODEL.PROPOSAL_GENERATOR.NAME": ("RPN",),
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": ([False, False, False, False],),
    "MODEL.RESNETS.NUM_GROUPS": (1,),
    "MODEL.RESNETS.OUT_FEATURES": (["res4"],),
    "MODEL.RESNETS.RES5_DILATION": (1,),
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": ("smooth_l1",),
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": (1.0,),
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": (False,),
    "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": (False,),
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": (False,),
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": (False,),
    "MODEL.ROI_HEADS.IGNORE_THRESHOLD": (-1.0,),  # of old configs
    "MODEL.ROI_HEADS.IN_FEATURES": (["res4"],),
    "MODEL.ROI_HEADS.IOU_LABELS": ([0, 1],),
    "MODEL.ROI_HEADS.NAME": ("Res5ROIHeads",),
    "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT": (True,),
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": ("smooth_l1",),
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": (1.0,),
    "MODEL.RPN.BOUNDARY_THRESH": (-1,),
    "MODEL.RPN.HEAD_NAME": ("StandardRPNHead",),
    "MODEL.RPN.IGNORE_THRESHOLD": (-1.0,),  # of old configs
    "MODEL.RPN.IN_FEATURES": (["res4"],),
    "MODEL.RPN.IOU_LABELS": ([0, -1, 1],),
    "MODEL.RPN.LOSS_WEIGHT": (1.0,),
    "SOLVER.BASE_LR_END": (0.0,),
    "SOLVER.BIAS_LR_FACTOR": (1.0,),
    "SOLVER.CLIP_GRADIENTS.ENABLED": (False,),
    "SOLVER.NESTEROV": (False,),
    "SOLVER.WARMUP_METHOD": ("linear",),
    "TEST.AUG.ENABLED": (False,),
    "TEST.PRECISE_BN.ENABLED": (False,),
    "VERSION": (2,),
}

# Ignored on purpose: they choose files and machines, or belong to parts that `ONLY` proves to be switched off.
IGNORED = (
    "CUDNN_BENCHMARK",
    "DATALOADER.REPEAT_SQRT",
    "DATALOADER.REPEAT_THRESHOLD",
    "DATASETS.",
    "FLOAT32_PRECISION",
    "GLOBAL.HACK",
    "INPUT.CROP.",
    "INPUT.MASK_FORMAT",
    "MODEL.ANCHOR_GENERATOR.ANGLES",
    "MODEL.DEVICE",
    "MODEL.FPN.",
    "MODEL.PANOPTIC_FPN.",
    "MODEL.RESNETS.DEFORM_",
    "MODEL.RETINANET.",
    "MODEL.ROI_BOX_CASCADE_HEAD.",
    "MODEL.ROI_BOX_HEAD.CONV_DIM",
    "MODEL.ROI_BOX_HEAD.FC_DIM",
    "MODEL.ROI_BOX_HEAD.FED_LOSS_",
    "MODEL.ROI_BOX_HEAD.NAME",
    "MODEL.ROI_BOX_HEAD.NORM",
    "MODEL.ROI_BOX_HEAD.NUM_CONV",
    "MODEL.ROI_BOX_HEAD.NUM_FC",
    "MODEL.ROI_KEYPOINT_HEAD.",
    "MODEL.ROI_MASK_HEAD.",
    "MODEL.SEM_SEG_HEAD.",
    "MODEL.WEIGHTS",
    "OUTPUT_DIR",
    "SOLVER.CLIP_GRADIENTS.",
    "SOLVER.NUM_DECAYS",
    "SOLVER.REFERENCE_WORLD_SIZE",
    "SOLVER.RESCALE_INTERVAL",
    "TEST.AUG.",
    "TEST.EXPECTED_RESULTS",
    "TEST.KEYPOINT_OKS_SIGMAS",
    "TEST.PRECISE_BN.",
    "VIS_PERIOD",
)

NORMS = {"FrozenBN": "frozen_batch", "BN": "batch", "SyncBN": "batch", "nnSyncBN": "batch", "GN": "group"}
POOLERS = {"ROIAlignV2": ("align", True), "ROIAlign": ("align", False), "ROIPool": ("pool", True)}
SCHEDULES = {"WarmupMultiStepLR": "steps", "WarmupCosineLR": "cosine"}
FLIPS = {"horizontal": (0.5, 0.0), "vertical": (0.0, 0.5), "none": (0.0, 0.0)}  # horizontal, vertical probability
BOTTLENECK_DEPTHS = (50, 101, 152)
EXPANSION = 4
BACKBONE_STAGES = 4


def config_from_detectron2(settings: Settings, source: str) -> Config:
    """Our config for a detectron2 model; settings that the file leaves out have detectron2's defaults.

    Args:
        settings: flat, as `read_settings` gives them.
        source: the file's name, for messages.

    Raises:
        UserError: one message naming every setting, with its value, that cannot be honoured or is unknown.
    """
    given = dict(DEFAULTS) | dict(settings)
    problems = [
        f"{key}={shown(given[key])} (here only {' or '.join(repr(v) for v in allowed)})"
        for key, allowed in ONLY.items()
        if key in given and given[key] not in allowed
    ]
    problems += [
        f"{key}={shown(value)} (unknown)"
        for key, value in given.items()
        if key not in DEFAULTS and key not in ONLY and not key.startswith(IGNORED)
    ]
    translator = _Translator(given, problems)
    values = translator.translate()
    if problems:
        raise UserError(f"{source}: settings of detectron2 that cannot be honoured here: {'; '.join(problems)}.")
    return config_from_dict(nested(values), source)


def channel_order(settings: Settings) -> str:
    """`BGR` or `RGB`: the order of the channels that the first convolution of the checkpoint expects."""
    order: str = settings.get("INPUT.FORMAT", DEFAULTS["INPUT.FORMAT"])
    return order


class _Translator:
    """The settings that need more than another name. What cannot be honoured is added to `problems`."""

    def __init__(self, given: Settings, problems: list[str]) -> None:
        self._given = given
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
            # conv5_x is in the head, beyond what detectron2 freezes in a C4 model.
            "model.backbone.freeze_stages": min(self._whole("MODEL.BACKBONE.FREEZE_AT"), BACKBONE_STAGES),
            "model.rpn.anchor_sizes": self._one_level("MODEL.ANCHOR_GENERATOR.SIZES"),
            "model.rpn.anchor_ratios": self._one_level("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"),
            "model.rpn.channels": self._rpn_channels(),
            "model.rpn.negative_iou": negative_iou,
            "model.rpn.positive_iou": positive_iou,
            "model.roi.positive_iou": self._numbers("MODEL.ROI_HEADS.IOU_THRESHOLDS", 1)[0],
            "model.roi.pooling": pooling[0],
            "model.roi.aligned": pooling[1],
            "train.schedule": self._choice("SOLVER.LR_SCHEDULER_NAME", SCHEDULES),
            "train.precision": "bfloat16" if given["SOLVER.AMP.ENABLED"] else "float32",
            "train.reference_batch_size": given["SOLVER.IMS_PER_BATCH"],
        }
        if self._whole("SEED") >= 0:
            values["train.seed"] = given["SEED"]
        self._check_resnet()
        if given["SOLVER.WEIGHT_DECAY_BIAS"] not in (None, given["SOLVER.WEIGHT_DECAY"]):
            self._refuse("SOLVER.WEIGHT_DECAY_BIAS", "here only that of the weights")
        if self._whole("TEST.DETECTIONS_PER_IMAGE") < 1:
            self._refuse("TEST.DETECTIONS_PER_IMAGE", "here a positive limit")
        return values

    def _check_resnet(self) -> None:
        if self._given["MODEL.RESNETS.DEPTH"] not in BOTTLENECK_DEPTHS:
            self._refuse("MODEL.RESNETS.DEPTH", "a C4 model of detectron2 has 50, 101 or 152")
        if self._given["MODEL.RESNETS.RES2_OUT_CHANNELS"] != EXPANSION * self._whole("MODEL.RESNETS.WIDTH_PER_GROUP"):
            self._refuse("MODEL.RESNETS.RES2_OUT_CHANNELS", f"here only {EXPANSION} times WIDTH_PER_GROUP")

    def _rpn_channels(self) -> int | None:
        dims = self._given["MODEL.RPN.CONV_DIMS"]
        if not isinstance(dims, list) or len(dims) != 1 or not isinstance(dims[0], int):
            self._refuse("MODEL.RPN.CONV_DIMS", "here one convolution")
            return None
        return dims[0] if dims[0] > 0 else None

    def _pixel(self, key: str) -> list[float]:
        """Three numbers in RGB order."""
        values = self._numbers(key, 3)
        if self._given["INPUT.FORMAT"] not in ("BGR", "RGB"):
            self._refuse("INPUT.FORMAT", "here BGR or RGB")
        return values[::-1] if self._given["INPUT.FORMAT"] == "BGR" else values

    def _one_level(self, key: str) -> list[float]:
        levels = self._given[key]
        if not isinstance(levels, list) or len(levels) != 1 or not isinstance(levels[0], list):
            self._refuse(key, "here one list in a list, for the one feature map of a C4 model")
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
