"""detectron2's C4 Faster R-CNN as ours: names, channel order, and the row of the background.

Inside the package there is one convention; the facts about theirs are in this file and in `detectron2_config`.
"""

from collections.abc import Mapping

from torch import Tensor

from detector.config import Config
from detector.weights.layout import CLS_SCORE, CONV1, model_shapes
from detector.weights.lineages.detectron2_config import channel_order, config_from_detectron2
from detector.weights.lineages.detectron2_settings import Settings
from detector.weights.remap import fill_folded_statistics, remap, reverse_channels, translate

# Ours → theirs, applied in turn as pieces of a name.
RENAMES = (
    (".backbone.conv1.", ".backbone.stem.conv1."),
    (".backbone.norm1.", ".backbone.stem.conv1.norm."),
    (".norm1.", ".conv1.norm."),
    (".norm2.", ".conv2.norm."),
    (".norm3.", ".conv3.norm."),
    (".shortcut.conv.", ".shortcut."),
    (".conv2_x.", ".res2."),
    (".conv3_x.", ".res3."),
    (".conv4_x.", ".res4."),
    (".roi_head.conv5_x.", ".roi_heads.res5."),
    (".roi_head.cls_score.", ".roi_heads.box_predictor.cls_score."),
    (".roi_head.bbox_pred.", ".roi_heads.box_predictor.bbox_pred."),
    (".rpn.conv.", ".proposal_generator.rpn_head.conv."),
    (".rpn.objectness.", ".proposal_generator.rpn_head.objectness_logits."),
    (".rpn.anchor_deltas.", ".proposal_generator.rpn_head.anchor_deltas."),
)

# Constants that old files carry; they follow from the config.
DROPPED = ("pixel_mean", "pixel_std", "proposal_generator.anchor_generator.cell_anchors.0")


def is_detectron2(names: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the names of detectron2's Faster R-CNN."""
    return any(name.startswith("proposal_generator.") for name in names)


def from_detectron2(tensors: Mapping[str, Tensor], settings: Settings, where: str) -> tuple[dict[str, Tensor], Config]:
    """Convert a C4 Faster R-CNN.

    Args:
        tensors: its state dict, float32.
        settings: its config, flat; what it leaves out has detectron2's defaults.
        where: the file's name, for messages.

    Returns:
        Our state dict, complete, and our config.

    Raises:
        UserError: settings that cannot be honoured, or tensors left over, missing or of another shape; all of them.
    """
    config = config_from_detectron2(settings, where)
    shapes = model_shapes(config)
    table: dict[str, str | None] = {theirs: ours for ours, theirs in translate(shapes, RENAMES).items()}
    table |= dict.fromkeys(DROPPED)
    state = remap(fill_folded_statistics(tensors, table, shapes), table, shapes, where)
    if channel_order(settings) == "BGR":
        state[CONV1] = reverse_channels(state[CONV1])
    for name in CLS_SCORE:
        state[name] = state[name].roll(1, dims=0)  # the background is their last row and our first
    return state, config
