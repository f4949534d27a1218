"""From scored anchors to proposals: the best by objectness, decode, clip, drop tiny ones, NMS (Faster R-CNN §3.3).

Of a pyramid every map gives its own, and the best of all are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import nms

from detector import boxes as box_ops
from detector.boxes import DeltaWeights
from detector.model.anchors import AnchorGrid
from detector.structures import Proposals, Size

Ranking = Literal["logit", "sigmoid", "sigmoid_after_top_n"]


@dataclass(frozen=True)
class ProposalSettings:
    """How many proposals an image gives, and which of them go.

    pre_nms_top_n: anchors of each feature map that are looked at, the best by objectness. post_nms_top_n: proposals
    that remain, of all maps together. nms_threshold: IoU above which the worse of two of a map goes. min_size: in
    pixels of the input image; width and height must exceed it. delta_weights, limit_shrinking: of the box code.
    rank_by: what NMS and the final choice compare: the logit, or its sigmoid, which is 1.0 for all that are large;
    `sigmoid` finds the top n by it too.
    """

    pre_nms_top_n: int
    post_nms_top_n: int
    nms_threshold: float
    min_size: float
    delta_weights: DeltaWeights
    limit_shrinking: bool = False
    rank_by: Ranking = "logit"


def select_proposals(
    scores: Sequence[tuple[Tensor, Tensor]], anchors: Sequence[AnchorGrid], size: Size, settings: ProposalSettings
) -> Proposals:
    """The proposals of one image.

    Args:
        scores: for each feature map, objectness logits [H'·W'·A] and deltas [H'·W'·A, 4], both float32.
        anchors: for each feature map, the anchors they are of.
        size: of the input image without padding; proposals are clipped to it.

    Returns:
        At most `post_nms_top_n` proposals in descending order of logit, or of its sigmoid.
    """
    maps = [
        _of_one_map(logits, deltas, grid, size, settings)
        for (logits, deltas), grid in zip(scores, anchors, strict=True)
    ]
    if len(maps) == 1:
        return maps[0]
    boxes, logits = torch.cat([p.boxes for p in maps]), torch.cat([p.logits for p in maps])
    ranks = logits if settings.rank_by == "logit" else logits.sigmoid()
    kept = ranks.argsort(descending=True, stable=True)[: settings.post_nms_top_n]
    return Proposals(boxes[kept], logits[kept])


def _of_one_map(
    logits: Tensor, deltas: Tensor, anchors: AnchorGrid, size: Size, settings: ProposalSettings
) -> Proposals:
    """The proposals of one image and one feature map. Only the anchors that may become one are made and decoded."""
    logits, chosen = _top(logits, settings)
    boxes = box_ops.decode_deltas(anchors.at(chosen), deltas[chosen], settings.delta_weights, settings.limit_shrinking)
    boxes = box_ops.clip(boxes, size)
    usable = torch.isfinite(boxes).all(dim=1) & torch.isfinite(logits)
    usable &= box_ops.is_larger_than(boxes, settings.min_size)
    boxes, logits = boxes[usable], logits[usable]
    ranks = logits if settings.rank_by == "logit" else logits.sigmoid()
    kept = first_survivors(boxes, ranks, settings.nms_threshold, settings.post_nms_top_n)
    return Proposals(boxes[kept], logits[kept])


def _top(logits: Tensor, settings: ProposalSettings) -> tuple[Tensor, Tensor]:
    """The logits of the best anchors of a map, descending by what ranks them, and the anchors' numbers."""
    count = min(settings.pre_nms_top_n, logits.shape[0])
    if settings.rank_by == "sigmoid":
        # Many sigmoids are exactly 1.0. Which of these come among the top n is decided by torch's unstable sort, as in
        # mmdetection; where all anchors are taken, the order of equal ones is that of their numbers.
        is_cut = logits.shape[0] > settings.pre_nms_top_n
        chosen = logits.sigmoid().sort(descending=True, stable=not is_cut).indices[:count]
        return logits[chosen], chosen
    return logits.topk(count)


def first_survivors(boxes: Tensor, scores: Tensor, threshold: float, count: int) -> Tensor:
    """The first `count` boxes that NMS keeps.

    Whether a box survives depends only on better ones, so NMS over the best boxes alone, ever more of them, finds the
    same without looking at the rest. On a GPU one pass over all is faster than waiting for each answer.

    Args:
        boxes: [B, 4] xyxy.
        scores: [B], descending.
        threshold: IoU above which the worse of two boxes goes.

    Returns:
        At most `count` indices, ascending.
    """
    total = boxes.shape[0]
    prefix = min(2 * count, total) if boxes.device.type == "cpu" else total
    kept = nms(boxes[:prefix], scores[:prefix], threshold)
    while kept.shape[0] < count and prefix < total:
        prefix = min(2 * prefix, total)
        kept = nms(boxes[:prefix], scores[:prefix], threshold)
    return kept[:count]
