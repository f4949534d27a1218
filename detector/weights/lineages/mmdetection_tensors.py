"""mmdetection's Faster R-CNN as ours: names, channel order, the background's row.

Inside the package there is one convention; the facts about theirs are in this file and in `mmdetection_config`.
"""

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from detector.categories import CategoryMap
from detector.errors import UserError
from detector.printing import printable
from detector.weights.compare import LISTED
from detector.weights.lineages.coco_categories import COCO_CATEGORIES
from detector.weights.lineages.mmdetection_config import MMDetectionModel, as_class_names, config_from_mmdetection
from detector.weights.lineages.mmdetection_config_text import parse_mmdetection_config
from detector.weights.lineages.torchvision_resnet import BLOCK_RENAMES
from detector.weights.remap import one_box_for_each_class, remap, reverse_channels, translate
from detector.weights.state_layout import CLS_SCORE, model_shapes

log = logging.getLogger(__name__)

# Ours → theirs, applied in turn as pieces of a name.
RENAMES = (
    (".backbone.body.", ".backbone."),
    (".backbone.lateral.", ".neck.lateral_convs."),
    (".backbone.output.", ".neck.fpn_convs."),
    (".roi_head.conv5_x.", ".roi_head.shared_head.layer4."),
    *BLOCK_RENAMES,
    (".rpn.conv.", ".rpn_head.rpn_conv."),
    (".rpn.objectness.", ".rpn_head.rpn_cls."),
    (".rpn.anchor_deltas.", ".rpn_head.rpn_reg."),
    (".roi_head.layers.fcs.", ".roi_head.bbox_head.shared_fcs."),
    (".roi_head.cls_score.", ".roi_head.bbox_head.fc_cls."),
    (".roi_head.bbox_pred.", ".roi_head.bbox_head.fc_reg."),
)
DETECTORS = ("rpn_head.", "bbox_head.", "roi_head.bbox_head.")  # one of these has every detector of mmdetection
CONV1 = "backbone.conv1.weight"
BOX_LAYER = "roi_head.bbox_head.fc_reg."
MASK_BRANCH = "roi_head.mask_head."
AVERAGES = "ema_"  # what the averaging hook of version 2 keeps in the model, beside its weights
CONFIG_KEYS = ("cfg", "config")  # of a checkpoint's notes, in version 3 and in version 2


def is_mmdetection(names: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the names of mmdetection's detectors, of any version and kind."""
    return any(name.startswith(DETECTORS) for name in names)


def from_mmdetection(
    tensors: Mapping[str, Tensor],
    values: Mapping[str, Any],
    source: str,
    boxes_only: bool = False,
) -> tuple[dict[str, Tensor], MMDetectionModel]:
    """Convert a Faster R-CNN.

    Args:
        tensors: its state dict, float32.
        values: its config.
        source: the file's name, for messages.
        boxes_only: take the box branch of a Mask R-CNN.

    Returns:
        Our state dict, complete, and what the config says.

    Raises:
        UserError: settings that cannot be honoured, or tensors left over, missing or of another shape; all of them.
    """
    if all(any(name.startswith(part) for name in tensors) for part in ("rpn_head.", "bbox_head.")):
        raise UserError(
            f"{source}: weights of mmdetection 1; its boxes are a pixel wider and its anchors whole numbers, which "
            "cannot be honoured here; train or convert it with mmdetection 2 or 3."
        )
    model = config_from_mmdetection(values, source, boxes_only)
    kept = _without_other_parts(tensors, source, boxes_only)
    shapes = model_shapes(model.config)
    table: dict[str, str | None] = {theirs: ours for ours, theirs in translate(shapes, RENAMES).items()}
    if model.class_agnostic:
        kept = one_box_for_each_class(kept, BOX_LAYER, model.config.model.num_classes or 1)
    state = remap(kept, table, shapes, source)
    if not model.is_rgb:
        conv1 = table[CONV1]
        assert conv1 is not None
        state[conv1] = reverse_channels(state[conv1])
    for name in CLS_SCORE:
        state[name] = state[name].roll(1, dims=0)  # the background is their last row and our first
    return state, model


def read_stored_config(meta: Mapping[Any, Any], source: str) -> dict[str, Any]:
    """The config that a checkpoint carries beside its weights.

    Raises:
        UserError: it carries none, or one that is a program.
    """
    for key in CONFIG_KEYS:
        text = meta.get(key)
        if isinstance(text, str) and text.strip():
            return parse_mmdetection_config(text, f"{source} ({key})")
    raise UserError(
        f"{source}: a checkpoint of mmdetection that does not carry its config; give it with --config, as training "
        "leaves it in its work_dir."
    )


def read_class_names(meta: Mapping[Any, Any], model: MMDetectionModel, source: str) -> CategoryMap | None:
    """The classes that a checkpoint names, or its config; None where neither does, or not for as many classes."""
    dataset = meta.get("dataset_meta")
    inner = dataset if isinstance(dataset, Mapping) else {}
    names = None
    for value in (inner.get("classes"), inner.get("CLASSES"), meta.get("CLASSES"), model.class_names):
        names = names or as_class_names(value)
    if names is None:
        return None
    if len(names) != model.config.model.num_classes:
        some = printable(", ".join(names[:LISTED]), 200)
        count = model.config.model.num_classes
        log.warning("%s names %d classes (%s …) and has %s; the names are left out", source, len(names), some, count)
        return None
    return COCO_CATEGORIES if list(names) == COCO_CATEGORIES.names else CategoryMap.from_names(names)


def _without_other_parts(tensors: Mapping[str, Tensor], source: str, boxes_only: bool) -> dict[str, Tensor]:
    """What belongs to the detector: without the hook's averages and, where asked for, without the mask branch."""
    left_out = [name for name in tensors if name.startswith(AVERAGES)]
    if left_out:
        log.info("%s: %d tensors of the averaging hook are left out, as mmdetection does", source, len(left_out))
    if boxes_only:
        masks = [name for name in tensors if name.startswith(MASK_BRANCH)]
        if not masks:
            raise UserError(f"{source}: has no masks, all of it is boxes; leave --boxes-only out.")
        log.info("%s: left out: the %d tensors of the mask branch (%s*)", source, len(masks), MASK_BRANCH)
        left_out += masks
    return {name: tensor for name, tensor in tensors.items() if name not in set(left_out)}
