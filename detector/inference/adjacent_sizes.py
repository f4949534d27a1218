"""Multi-scale testing by maxout: of two adjacent sizes, the larger activation counts (ResNet paper, appendix B).

The rule is that of Ren et al. 2015, "Object detection networks on convolutional feature maps": among several sizes of
the picture, a region is pooled at the two adjacent ones at which it comes nearest to 224 pixels, and the two paths are
joined by their maximum. Here the maximum is taken over the vectors [R, C'] that the sibling layers see. That is how the
ResNet paper has it ("RoI pooling and subsequent layers" run at both sizes before they are merged), and heads of every
kind have such vectors. Taken directly after RoI pooling, it would be out of reach of the fast head of a C4 network,
which runs the first convolutions of conv5_x before pooling: a maximum does not commute with them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from detector import boxes as box_ops
from detector.inference.look import Look
from detector.model.global_context import join_context


def score_by_maxout(
    looks: Sequence[Look], boxes: Sequence[Tensor], canonical_size: float
) -> tuple[list[Tensor], list[Tensor]]:
    """Score regions of N pictures, each by two of the views that one network has of them.

    Args:
        looks: of one network, mirrored alike, at two sizes or more, in any order.
        boxes: N tensors [P_i, 4] xyxy, pixels of the original images.
        canonical_size: the √area, in pixels of a view, at which a region is seen best.

    Returns:
        N tensors of class scores [P_i, K+1] and N of boxes [P_i, K, 4] of the original images, as `FasterRCNN.score`.
    """
    looks = sorted(looks, key=lambda one: one.size)
    first, head = looks[0], looks[0].member.network.roi_head
    counts = [len(b) for b in boxes]
    lower = torch.cat([lower_size(b, looks, canonical_size) for b in boxes])
    best: Tensor | None = None
    for place, one in enumerate(looks):
        chosen = (lower == place) | (lower + 1 == place)
        parts = [b[c] for b, c in zip(one.seen(boxes), torch.split(chosen, counts), strict=True)]
        if head.has_context:
            vectors = join_context(head.vectors, one.features, parts, [one.size] * len(parts))
        else:
            vectors = head.vectors(one.features, parts)
        if best is None:
            best = vectors.new_full((len(lower), vectors.shape[1]), -torch.inf)
        best[chosen] = torch.maximum(best[chosen], vectors)
    assert best is not None
    logits, deltas = head.predict(best)
    # Deltas are relative to a region's own size, so they may be applied in the original's frame, mirrored as the view.
    mirrored = [first.view.mirror(b, first.original) for b in boxes]
    decoded = first.member.network.decode(logits, deltas, mirrored)
    pairs = [first.member.translate(s, b) for s, b in zip(*decoded, strict=True)]
    return [s for s, _ in pairs], [first.view.mirror(b, first.original) for _, b in pairs]


def lower_size(boxes: Tensor, looks: Sequence[Look], canonical_size: float) -> Tensor:
    """For each box the index in `looks` of the smaller of its two adjacent sizes, [P] int64.

    Args:
        boxes: [P, 4] xyxy, pixels of the original image.
        looks: from small to large.
        canonical_size: see `score_by_maxout`.
    """
    root = box_ops.area(boxes).clamp(min=1e-12).sqrt()
    scales = [((one.size[0] * one.size[1]) / (one.original[0] * one.original[1])) ** 0.5 for one in looks]
    distance = (root[:, None] * root.new_tensor(scales) / canonical_size).log().abs()
    return (distance[:, :-1] + distance[:, 1:]).argmin(dim=1)
