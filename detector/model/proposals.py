"""From scored anchors to proposals: decode, clip, drop tiny ones, NMS, keep the best (Faster R-CNN §3.3)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import nms

from detector import boxes as box_ops
from detector.boxes import DeltaWeights
from detector.structures import Proposals, Size


@dataclass(frozen=True)
class ProposalSettings:
    """How many proposals, and how they thin each other out.

    min_size: in pixels of the input image; width and height must exceed it.
    """

    pre_nms_top_n: int
    post_nms_top_n: int
    nms_threshold: float
    min_size: float
    delta_weights: DeltaWeights


@torch.no_grad()
def select_proposals(
    logits: Tensor, deltas: Tensor, anchors: Tensor, size: Size, settings: ProposalSettings
) -> Proposals:
    """The proposals of one image. No gradient flows through them: joint training is approximate (§3.2).

    Args:
        logits: [H'·W'·A] float32 objectness.
        deltas: [H'·W'·A, 4] float32.
        anchors: [H'·W'·A, 4] float32 xyxy, absolute pixels of the input image.
        size: of the input image without padding; proposals are clipped to it.

    Returns:
        At most `post_nms_top_n` proposals in descending order of logit.
    """
    logits, chosen = logits.topk(min(settings.pre_nms_top_n, logits.shape[0]))
    return refine_proposals(logits, deltas[chosen], anchors[chosen], size, settings)


def refine_proposals(
    logits: Tensor, deltas: Tensor, anchors: Tensor, size: Size, settings: ProposalSettings
) -> Proposals:
    """The same for the anchors of the highest logits alone, in descending order: [B], [B, 4], [B, 4]."""
    boxes = box_ops.decode_deltas(anchors, deltas, settings.delta_weights)
    boxes = box_ops.clip(boxes, size)
    usable = torch.isfinite(boxes).all(dim=1) & torch.isfinite(logits)
    usable &= box_ops.is_larger_than(boxes, settings.min_size)
    boxes, logits = boxes[usable], logits[usable]
    kept = first_survivors(boxes, logits, settings.nms_threshold, settings.post_nms_top_n)
    return Proposals(boxes[kept], logits[kept])


def first_survivors(boxes: Tensor, scores: Tensor, threshold: float, count: int) -> Tensor:
    """The first `count` that NMS keeps.

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
