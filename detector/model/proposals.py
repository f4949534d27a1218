"""From scored anchors to proposals: the best by objectness, decode, clip, drop tiny ones, NMS (Faster R-CNN §3.3).

Each map of a pyramid is treated by itself, and the best proposals of all maps are kept.
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
    """How many proposals an image gives, and which are dropped.

    pre_nms_top_n: how many anchors of each feature map are decoded, the best by objectness.
    post_nms_top_n: how many proposals remain at most, of all maps together.
    nms_threshold: IoU above which the worse of two proposals of one map is dropped.
    min_size: pixels of the input image that width and height must exceed.
    delta_weights, limit_shrinking: of the box code (`boxes.decode_deltas`).
    rank_by: what NMS and the final choice rank by. `logit`; `sigmoid_after_top_n`: its sigmoid, in which large logits
    are ties, since it is 1.0 for all of them; `sigmoid`: the best anchors are found by the sigmoid too.
    """

    pre_nms_top_n: int
    post_nms_top_n: int
    nms_threshold: float
    min_size: float
    delta_weights: DeltaWeights
    limit_shrinking: bool = False
    rank_by: Ranking = "logit"

    def ranks(self, logits: Tensor) -> Tensor:
        """What NMS and the final choice rank proposals by, of the shape of their logits."""
        return logits if self.rank_by == "logit" else logits.sigmoid()


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
    kept = settings.ranks(logits).argsort(descending=True, stable=True)[: settings.post_nms_top_n]
    return Proposals(boxes[kept], logits[kept])


def _of_one_map(
    logits: Tensor, deltas: Tensor, anchors: AnchorGrid, size: Size, settings: ProposalSettings
) -> Proposals:
    """The proposals of one image and one feature map. Only the best anchors are made and decoded."""
    logits, chosen = _top(logits, settings)
    boxes = box_ops.decode_deltas(anchors.at(chosen), deltas[chosen], settings.delta_weights, settings.limit_shrinking)
    boxes = box_ops.clip(boxes, size)
    usable = torch.isfinite(boxes).all(dim=1) & torch.isfinite(logits)
    usable &= box_ops.is_larger_than(boxes, settings.min_size)
    boxes, logits = boxes[usable], logits[usable]
    kept = first_survivors(boxes, settings.ranks(logits), settings.nms_threshold, settings.post_nms_top_n)
    return Proposals(boxes[kept], logits[kept])


def _top(logits: Tensor, settings: ProposalSettings) -> tuple[Tensor, Tensor]:
    """Logits [B] and numbers [B] int64 of the `pre_nms_top_n` best anchors of a map, the best first."""
    count = min(settings.pre_nms_top_n, logits.shape[0])
    if settings.rank_by == "sigmoid":
        # Many sigmoids are exactly 1.0. Which of these are among the top n is decided by torch's unstable sort, as in
        # mmdetection; where all anchors are taken, equal ones stay in the order of their numbers.
        is_cut = logits.shape[0] > settings.pre_nms_top_n
        chosen = logits.sigmoid().sort(descending=True, stable=not is_cut).indices[:count]
        return logits[chosen], chosen
    return logits.topk(count)


def first_survivors(boxes: Tensor, scores: Tensor, threshold: float, count: int) -> Tensor:
    """The first `count` boxes that NMS keeps.

    Whether a box survives depends only on better ones. So on a CPU NMS runs on the best boxes alone, and on twice as
    many again until enough survive. On a GPU one pass over all is faster than waiting for each answer.

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
