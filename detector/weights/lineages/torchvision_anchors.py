"""The order of a cell's anchors in torchvision's RPN, which goes ratio by ratio, and ours, which goes size by size."""

from collections.abc import Mapping

from torch import Tensor

from detector.config import Config
from detector.config.network import PYRAMID_LEVELS

OBJECTNESS = "rpn.head.cls_logits."
ANCHOR_DELTAS = "rpn.head.bbox_pred."


def with_our_order(tensors: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The tensors with the rows of the RPN's two layers in the order that `config` gives a cell's anchors.

    Args:
        tensors: by torchvision's names. Layers of another number of anchors are left as they are.
        config: of the model; with `model.rpn.anchor_order=ratio` nothing changes.
    """
    sizes, ratios = _shape_of_cell(config)
    return _reordered(tensors, config, sizes, ratios)


def with_their_order(tensors: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The inverse of `with_our_order`."""
    sizes, ratios = _shape_of_cell(config)
    return _reordered(tensors, config, ratios, sizes)


def size_major(rows: Tensor, sizes: int, ratios: int) -> Tensor:
    """Reorder rows that go with anchors: torchvision's have index ratio · sizes + size, ours size · ratios + ratio.

    Args:
        rows: [A·C, …], C rows for each anchor.
    """
    grouped = rows.reshape(ratios, sizes, -1, *rows.shape[1:])
    return grouped.transpose(0, 1).reshape(rows.shape)


def _shape_of_cell(config: Config) -> tuple[int, int]:
    """How many sizes and ratios the anchors of a cell have."""
    rpn = config.model.rpn
    levels = PYRAMID_LEVELS if config.model.kind == "fpn" else 1
    return len(rpn.anchor_sizes) // levels, len(rpn.anchor_ratios)


def _reordered(tensors: Mapping[str, Tensor], config: Config, inner: int, outer: int) -> dict[str, Tensor]:
    reordered = dict(tensors)
    if config.model.rpn.anchor_order == "ratio":
        return reordered
    for kind in ("weight", "bias"):
        for name, per_anchor in ((OBJECTNESS + kind, 1), (ANCHOR_DELTAS + kind, 4)):
            rows = reordered.get(name)
            if rows is not None and rows.shape[0] == inner * outer * per_anchor:
                reordered[name] = size_major(rows, inner, outer)
    return reordered
