"""mmdetection's Faster R-CNN as our settings. What has no counterpart here is refused by name, with its value.

Versions 2 and 3 differ in where things stand, and in nothing that moves a detection. The facts are those of version
3.3.0: what each file of its packages computes, and what each setting's default is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detector.config import Config, config_from_dict
from detector.errors import UserError, shown
from detector.weights.lineages.detectron2_settings import nested
from detector.weights.lineages.mmdetection_heads import (
    read_proposals,
    read_roi_head,
    read_rpn,
    read_selection,
    training_settings,
)
from detector.weights.lineages.mmdetection_input import input_settings
from detector.weights.lineages.mmdetection_section import Section

# num_stages, strides, dilations and out_indices of the backbone by the kind of model.
STAGES: Mapping[str, tuple[int, list[int], list[int], list[int]]] = {
    "c4": (3, [1, 2, 2], [1, 1, 1], [2]),
    "fpn": (4, [1, 2, 2, 2], [1, 1, 1, 1], [0, 1, 2, 3]),
    "dc5": (4, [1, 2, 2, 1], [1, 1, 1, 2], [3]),
}
LISTED = 6  # settings in a message
STYLES = {"pytorch": False, "caffe": True}  # whether a bottleneck's stride is in its first 1×1
UNKNOWN_MODELS = "here FasterRCNN with one box head; Cascade, RetinaNet, DETR and others are other networks"


@dataclass(frozen=True)
class MMDetectionModel:
    """What a config says of a model.

    config: ours. is_rgb: the network wants RGB, else BGR. class_agnostic: one box for all classes, which we have for
    each. class_names: where the config says them.
    """

    config: Config
    is_rgb: bool
    class_agnostic: bool
    class_names: tuple[str, ...] | None


def config_from_mmdetection(values: Mapping[str, Any], source: str, boxes_only: bool = False) -> MMDetectionModel:
    """Our config for mmdetection's.

    Args:
        values: the whole config, as it is dumped.
        source: the file's name, for messages.
        boxes_only: take the box branch of a Mask R-CNN.

    Raises:
        UserError: one message naming every setting, with its value, that cannot be honoured; of many the first.
    """
    problems: list[str] = []
    if not isinstance(values.get("model"), Mapping):
        raise UserError(f"{source}: not a config of mmdetection, it has no `model`.")
    _refuse_version_1(values["model"], source)
    model = Section(values["model"], "model", problems)
    name = model.name()
    if name not in ("FasterRCNN", *(["MaskRCNN"] if boxes_only else [])):
        remedy = "; --boxes-only loads its box branch" if name == "MaskRCNN" else ""
        raise UserError(f"{source}: model.type={shown(name)} cannot be honoured here ({UNKNOWN_MODELS}{remedy}).")
    ours, is_rgb = input_settings(values, problems)
    kind = "fpn" if "neck" in model else "c4" if "shared_head" in _mapping(values["model"].get("roi_head")) else "dc5"
    ours["model.kind"] = kind
    _read_backbone(model.section("backbone"), kind, ours)
    if kind == "fpn":
        _read_neck(model.section("neck"), ours)
    test = Section(model.take("test_cfg") or values.get("test_cfg", {}), "model.test_cfg", problems)
    read_rpn(model.section("rpn_head"), kind, ours)
    read_proposals(test.section("rpn"), ours)
    class_agnostic = read_roi_head(model.section("roi_head"), kind, ours, boxes_only)
    read_selection(test.section("rcnn"), ours)
    ours |= training_settings(model.take("train_cfg") or values.get("train_cfg"))
    model.ignore("data_preprocessor", "pretrained", "init_cfg")
    model.finish()
    if problems:
        more = f" and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        listed = "; ".join(problems[:LISTED])
        raise UserError(f"{source}: settings of mmdetection that cannot be honoured here: {listed}{more}.")
    config = config_from_dict(nested(ours), source)
    return MMDetectionModel(config, is_rgb, class_agnostic, class_names_of(values))


def class_names_of(values: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names that a config gives the classes of its data, in the order of the labels; None where it does not."""
    loader, data = _mapping(values.get("test_dataloader")), _mapping(values.get("data"))
    for place in (
        _mapping(_mapping(loader.get("dataset")).get("metainfo")),
        _mapping(values.get("metainfo")),
        _mapping(data.get("test")),
        values,
    ):
        names = as_class_names(place.get("classes", place.get("CLASSES")))
        if names is not None:
            return names
    return None


def as_class_names(value: Any) -> tuple[str, ...] | None:
    """The value as names of classes, or None where it is none."""
    if isinstance(value, list | tuple) and value and all(isinstance(name, str) for name in value):
        return tuple(value)
    return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _refuse_version_1(model: Mapping[str, Any], source: str) -> None:
    rpn = _mapping(model.get("rpn_head"))
    if ("bbox_head" in model and "roi_head" not in model and "rpn_head" in model) or "anchor_scales" in rpn:
        raise UserError(
            f"{source}: a config of mmdetection 1; its boxes are a pixel wider and its anchors whole numbers, which "
            "cannot be honoured here; train or convert it with mmdetection 2 or 3."
        )


def _read_backbone(section: Section, kind: str, ours: dict[str, Any]) -> None:
    name = section.name()
    if name not in ("ResNet", "ResNeXt"):
        section.refuse("type", name, "here ResNet or ResNeXt")
    base = int(section.number("base_channels", 64))
    ours |= {
        "model.backbone.depth": int(section.number("depth")),
        "model.backbone.width": base,
        "model.backbone.stem_channels": int(section.number("stem_channels", base)),
        "model.backbone.stride_in_1x1": section.choice("style", STYLES),
        "model.backbone.freeze_stages": int(section.number("frozen_stages", -1)) + 1,
        "model.backbone.norm": _read_norm(section),
    }
    groups = int(section.number("groups", 1))
    if groups > 1:
        ours |= {
            "model.backbone.groups": groups,
            "model.backbone.width_per_group": int(section.number("base_width", 4)),
        }
    count, strides, dilations, outputs = STAGES[kind]
    # mmdetection's defaults are a pyramid's.
    for key, default, wanted in (
        ("num_stages", 4, count),
        ("strides", STAGES["fpn"][1], strides),
        ("dilations", STAGES["fpn"][2], dilations),
        ("out_indices", STAGES["fpn"][3], outputs),
    ):
        value = section.take(key, default)
        if (list(value) if isinstance(value, tuple) else value) != wanted:
            section.refuse(key, value, f"here {wanted} for such a model")
    section.only("dcn", None)
    section.only("stage_with_dcn", [False, False, False, False])
    section.only("plugins", None)
    section.only("conv_cfg", None)
    section.only("in_channels", 3)
    section.only("deep_stem", False)
    section.only("avg_down", False)
    section.only("contract_dilation", False)
    section.ignore("base_width", "with_cp", "zero_init_residual", "init_cfg", "pretrained")
    section.finish()


def _read_norm(section: Section) -> str:
    """Which norm the backbone has; with `norm_eval` its statistics are those of ImageNet, in training too."""
    norm = section.section("norm_cfg")
    name = norm.name()
    if name not in ("BN", "SyncBN", ""):
        norm.refuse("type", name, "here BN or SyncBN")
    norm.only("eps", 1e-5)
    norm.ignore("requires_grad", "momentum", "num_groups")
    norm.finish()
    return "frozen_batch" if section.take("norm_eval", True) else "batch"


def _read_neck(section: Section, ours: dict[str, Any]) -> None:
    name = section.name()
    if name != "FPN":
        section.refuse("type", name, "here FPN")
    ours["model.fpn.channels"] = int(section.number("out_channels"))
    section.only("num_outs", 5)
    section.only("add_extra_convs", False)
    section.only("start_level", 0)
    section.only("end_level", -1, 3)
    section.only("norm_cfg", None)
    section.only("conv_cfg", None)
    section.only("act_cfg", None)
    section.only("upsample_cfg", {"mode": "nearest"})
    section.ignore("in_channels", "relu_before_extra_convs", "no_norm_on_lateral", "init_cfg")
    section.finish()
