"""detectron2's Faster R-CNN as ours: names, channel order, and the row of the background.

Inside the package there is one convention; the facts about theirs are in this file and in `detectron2_config`.
"""

import logging
from collections.abc import Mapping

from torch import Tensor

from detector.config import Config, ModelConfig
from detector.errors import UserError
from detector.weights.lineages.detectron2_config import channel_order, config_to_detect
from detector.weights.lineages.detectron2_keys import CLASS_AGNOSTIC, OTHER_BRANCHES
from detector.weights.lineages.detectron2_settings import Settings
from detector.weights.remap import (
    Renames,
    fill_folded_statistics,
    one_box_for_each_class,
    remap,
    reverse_channels,
    translate,
)
from detector.weights.state_layout import CLS_SCORE, conv1_name, model_shapes

log = logging.getLogger(__name__)

# Ours → theirs, applied in turn as pieces of a name.
RENAMES: Renames = (
    (".backbone.conv1.", ".backbone.stem.conv1."),
    (".backbone.norm1.", ".backbone.stem.conv1.norm."),
    (".backbone.body.conv1.", ".backbone.bottom_up.stem.conv1."),
    (".backbone.body.norm1.", ".backbone.bottom_up.stem.conv1.norm."),
    (".backbone.body.", ".backbone.bottom_up."),
    (".norm1.", ".conv1.norm."),
    (".norm2.", ".conv2.norm."),
    (".norm3.", ".conv3.norm."),
    (".shortcut.conv.", ".shortcut."),
    (".conv2_x.", ".res2."),
    (".conv3_x.", ".res3."),
    (".conv4_x.", ".res4."),
    (".roi_head.conv5_x.", ".roi_heads.res5."),
    (".conv5_x.", ".res5."),
    *((f".backbone.lateral.{i}.", f".backbone.fpn_lateral{i + 2}.") for i in range(4)),
    *((f".backbone.output.{i}.", f".backbone.fpn_output{i + 2}.") for i in range(4)),
    *(
        (f".backbone.{kind}{i}.conv.", f".backbone.{kind}{i}.")
        for kind in ("fpn_lateral", "fpn_output")
        for i in range(2, 6)
    ),
    *((f".roi_head.layers.convs.{i}.", f".roi_heads.box_head.conv{i + 1}.") for i in range(16)),
    *((f".roi_heads.box_head.conv{i}.conv.", f".roi_heads.box_head.conv{i}.") for i in range(1, 17)),
    *((f".roi_head.layers.fcs.{i}.", f".roi_heads.box_head.fc{i + 1}.") for i in range(16)),
    (".roi_head.cls_score.", ".roi_heads.box_predictor.cls_score."),
    (".roi_head.bbox_pred.", ".roi_heads.box_predictor.bbox_pred."),
    (".rpn.conv.", ".proposal_generator.rpn_head.conv."),
    (".rpn.objectness.", ".proposal_generator.rpn_head.objectness_logits."),
    (".rpn.anchor_deltas.", ".proposal_generator.rpn_head.anchor_deltas."),
)
# Where the RPN has several convolutions, they are numbered.
NUMBERED_RPN_CONVS: Renames = (
    (".rpn.conv.", ".proposal_generator.rpn_head.conv.conv0."),
    *((f".rpn.more_convs.{i}.", f".proposal_generator.rpn_head.conv.conv{i + 1}.") for i in range(7)),
)

BOX_LAYER = "roi_heads.box_predictor.bbox_pred."
# Constants that old files carry; they follow from the config.
DROPPED = ("pixel_mean", "pixel_std")
CELL_ANCHORS = "proposal_generator.anchor_generator.cell_anchors."


def renames_of(model: ModelConfig) -> Renames:
    """The pieces of names that differ, ours → theirs, for this model."""
    return (*NUMBERED_RPN_CONVS, *RENAMES) if model.rpn.conv_layers > 1 else RENAMES


def is_detectron2(names: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the names of detectron2's Faster R-CNN."""
    return any(name.startswith("proposal_generator.") for name in names)


def from_detectron2(
    tensors: Mapping[str, Tensor], settings: Settings, where: str, boxes_only: bool = False
) -> tuple[dict[str, Tensor], Config]:
    """Convert a Faster R-CNN.

    Args:
        tensors: its state dict, float32.
        settings: its config, flat; what it leaves out has detectron2's defaults.
        where: the file's name, for messages.
        boxes_only: leave out the mask and keypoint heads of a Mask R-CNN or Keypoint R-CNN; the log counts them.

    Returns:
        Our state dict, complete, and our config.

    Raises:
        UserError: settings that cannot be honoured, or tensors left over, missing or of another shape; all of them. Or
            `boxes_only` of a model that has nothing else.
    """
    config = config_to_detect(settings, where, boxes_only)
    if boxes_only:
        tensors = without_other_branches(tensors, where)
    if settings.get(CLASS_AGNOSTIC, False):
        rows = next((tensor.shape[0] for name, tensor in tensors.items() if name.startswith(BOX_LAYER)), 4)
        if rows != 4:
            raise UserError(f"{where}: {CLASS_AGNOSTIC}=True, but {BOX_LAYER}weight has {rows} rows and not 4.")
        tensors = one_box_for_each_class(tensors, BOX_LAYER, config.model.num_classes or 1)
    shapes = model_shapes(config)
    table: dict[str, str | None] = {
        theirs: ours for ours, theirs in translate(shapes, renames_of(config.model)).items()
    }
    table |= dict.fromkeys(DROPPED)
    levels = len(settings.get("MODEL.RPN.IN_FEATURES", [""])) if config.model.kind == "fpn" else 1
    table |= dict.fromkeys(f"{CELL_ANCHORS}{level}" for level in range(levels))
    state = remap(fill_folded_statistics(tensors, table, shapes), table, shapes, where)
    if channel_order(settings) == "BGR":
        state[conv1_name(state)] = reverse_channels(state[conv1_name(state)])
    for name in CLS_SCORE:
        state[name] = state[name].roll(1, dims=0)  # the background is their last row and our first
    return state, config


def without_other_branches(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors without those of mask and keypoint heads, which the log counts by part.

    Raises:
        UserError: there are none, so that nothing has to be left out.
    """
    left_out = {part: [name for name in tensors if name.startswith(prefix)] for part, prefix in OTHER_BRANCHES.values()}
    counted = [f"{len(names)} tensors of {part}" for part, names in left_out.items() if names]
    if not counted:
        raise UserError(f"{where}: has neither masks nor keypoints, all of it is boxes; leave --boxes-only out.")
    log.info("%s: boxes only; left out: %s", where, ", ".join(counted))
    dropped = {name for names in left_out.values() for name in names}
    return {name: tensor for name, tensor in tensors.items() if name not in dropped}
