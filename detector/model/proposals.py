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
    boxes = box_ops.decode_deltas(anchors[chosen], deltas[chosen], settings.delta_weights)
    boxes = box_ops.clip(boxes, size)
    usable = torch.isfinite(boxes).all(dim=1) & torch.isfinite(logits)
    usable &= box_ops.is_larger_than(boxes, settings.min_size)
    boxes, logits = boxes[usable], logits[usable]
    kept = nms(boxes, logits, settings.nms_threshold)[: settings.post_nms_top_n]
    return Proposals(boxes[kept], logits[kept])
