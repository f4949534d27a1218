"""detectron2's configs as flat settings `MODEL.RPN.NMS_THRESH → 0.7`: its defaults, and how its YAML files are read."""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from detector.config.yaml_file import read_yaml
from detector.errors import UserError, shown
from detector.weights.lineages.detectron2_keys import STRUCTURE

Settings = Mapping[str, Any]

MAX_SETTINGS = 5000
MAX_BASES = 5
MAX_DEPTH = 20  # of settings within settings

# The settings that have a counterpart here, with detectron2's own defaults (its config/defaults.py, v0.6).
DEFAULTS: Settings = {
    "DATALOADER.ASPECT_RATIO_GROUPING": True,
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": True,
    "DATALOADER.NUM_WORKERS": 4,
    "INPUT.FORMAT": "BGR",
    "INPUT.MAX_SIZE_TEST": 1333,
    "INPUT.MAX_SIZE_TRAIN": 1333,
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MIN_SIZE_TRAIN": [800],
    "INPUT.RANDOM_FLIP": "horizontal",
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    "MODEL.ANCHOR_GENERATOR.OFFSET": 0.0,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32, 64, 128, 256, 512]],
    "MODEL.BACKBONE.FREEZE_AT": 2,
    "MODEL.FPN.NORM": "",
    "MODEL.FPN.OUT_CHANNELS": 256,
    "MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675],
    "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": 0,
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.RESNETS.NUM_GROUPS": 1,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 256,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 64,
    "MODEL.RESNETS.STRIDE_IN_1X1": True,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 64,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": [10.0, 10.0, 5.0, 5.0],
    "MODEL.ROI_BOX_HEAD.CONV_DIM": 256,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 1024,
    "MODEL.ROI_BOX_HEAD.NAME": "",
    "MODEL.ROI_BOX_HEAD.NORM": "",
    "MODEL.ROI_BOX_HEAD.NUM_CONV": 0,
    "MODEL.ROI_BOX_HEAD.NUM_FC": 0,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 14,
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 0,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlignV2",
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 0.0,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 512,
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": [0.5],
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.5,
    "MODEL.ROI_HEADS.NUM_CLASSES": 80,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.25,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.05,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 256,
    "MODEL.RPN.BBOX_REG_WEIGHTS": [1.0, 1.0, 1.0, 1.0],
    "MODEL.RPN.CONV_DIMS": [-1],
    "MODEL.RPN.IOU_THRESHOLDS": [0.3, 0.7],
    "MODEL.RPN.NMS_THRESH": 0.7,
    "MODEL.RPN.POSITIVE_FRACTION": 0.5,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 6000,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 12000,
    "MODEL.RPN.SMOOTH_L1_BETA": 0.0,
    "SEED": -1,
    "SOLVER.AMP.ENABLED": False,
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.CHECKPOINT_PERIOD": 5000,
    "SOLVER.GAMMA": 0.1,
    "SOLVER.IMS_PER_BATCH": 16,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
    "SOLVER.MAX_ITER": 40000,
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.STEPS": [30000],
    "SOLVER.WARMUP_FACTOR": 0.001,
    "SOLVER.WARMUP_ITERS": 1000,
    "SOLVER.WEIGHT_DECAY": 0.0001,
    "SOLVER.WEIGHT_DECAY_BIAS": None,
    "SOLVER.WEIGHT_DECAY_NORM": 0.0,
    "TEST.DETECTIONS_PER_IMAGE": 100,
    "TEST.EVAL_PERIOD": 0,
}

# What the zoo's base configs change, for override files whose base is not at hand.
BASE_RCNN_C4: Settings = {
    "DATASETS.TRAIN": ["coco_2017_train"],
    "DATASETS.TEST": ["coco_2017_val"],
    "INPUT.MIN_SIZE_TRAIN": [640, 672, 704, 736, 768, 800],
    "SOLVER.IMS_PER_BATCH": 16,
    "SOLVER.BASE_LR": 0.02,
    "SOLVER.STEPS": [60000, 80000],
    "SOLVER.MAX_ITER": 90000,
}
TWO_LAYER_HEAD: Settings = {
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
}
BASE_RCNN_FPN: Settings = {
    **BASE_RCNN_C4,
    **STRUCTURE["fpn"],
    **TWO_LAYER_HEAD,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1000,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
}
BASE_RCNN_DILATED_C5: Settings = {**BASE_RCNN_C4, **STRUCTURE["dc5"], **TWO_LAYER_HEAD}
KNOWN_BASES: Mapping[str, Settings] = {
    "Base-RCNN-C4.yaml": BASE_RCNN_C4,
    "Base-RCNN-FPN.yaml": BASE_RCNN_FPN,
    "Base-RCNN-DilatedC5.yaml": BASE_RCNN_DILATED_C5,
}


def read_settings(path: str | Path) -> dict[str, Any]:
    """Read a dumped config, or an override file over the base that its `_BASE_` names. Defaults are not filled in.

    Raises:
        UserError: one sentence naming the file: unreadable, no YAML, or a base that is not there.
    """
    return _read(Path(path), bases_left=MAX_BASES)


def write_settings(settings: Settings) -> str:
    """YAML that detectron2's `cfg.merge_from_file` reads, and `read_settings` too."""
    return yaml.safe_dump(nested(settings), sort_keys=True)


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Settings under dotted keys as mappings in mappings."""
    root: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        holder = root
        for parent in parents:
            holder = holder.setdefault(parent, {})
        holder[last] = value
    return root


def _read(path: Path, bases_left: int) -> dict[str, Any]:
    content = read_yaml(path)
    if not content:
        raise UserError(f"{path}: the config is empty; give detectron2's config.yaml.")
    base = content.pop("_BASE_", None)
    settings: dict[str, Any] = {}
    if base is not None:
        if not isinstance(base, str):
            raise UserError(f"{path}: its _BASE_ is {shown(base)}; expected the name of a file.")
        settings = _read_base(path, base, bases_left)
    _flatten(content, "", settings, path)
    return settings


def _read_base(path: Path, base: str, bases_left: int) -> dict[str, Any]:
    base_path = path.parent / Path(base).expanduser()
    if base_path.is_file():
        if bases_left == 0:
            raise UserError(f"{path}: more than {MAX_BASES} configs are based on one another.")
        return _read(base_path, bases_left - 1)
    if base_path.name in KNOWN_BASES:
        return dict(KNOWN_BASES[base_path.name])
    raise UserError(f"{path}: its _BASE_ {base} is not there; put the file beside it, or give the dumped config.yaml.")


def _flatten(content: Mapping[Any, Any], prefix: str, into: dict[str, Any], path: Path) -> None:
    if prefix.count(".") > MAX_DEPTH:
        raise UserError(f"{path}: settings are nested more than {MAX_DEPTH} deep; this is not a config of detectron2.")
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            _flatten(value, f"{prefix}{key}.", into, path)
        else:
            into[f"{prefix}{key}"] = _decode(value)
        if len(into) > MAX_SETTINGS:
            raise UserError(f"{path}: more than {MAX_SETTINGS} settings; this is not a config of detectron2.")


def _decode(value: Any) -> Any:
    """detectron2 reads texts such as `("a",)` or `1e-3` as Python literals, and other texts as they are."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
    return _as_lists(value)


def _as_lists(value: Any) -> Any:
    """Tuples as lists, also within one another."""
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value
