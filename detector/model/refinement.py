"""The head looks again, at the boxes that it has just regressed (iterative box refinement)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from detector import boxes as box_ops
from detector.structures import Size

# `FasterRCNN.score` of some features: N tensors of boxes [P_i, 4] to class scores [P_i, K+1] and boxes [P_i, K, 4].
Score = Callable[[Sequence[Tensor]], tuple[list[Tensor], list[Tensor]]]


def refine(
    score: Score,
    scores: list[Tensor],
    boxes: list[Tensor],
    sizes: Sequence[Size],
    passes: int,
    keep_all: bool,
) -> tuple[list[Tensor], list[Tensor]]:
    """Score regressed boxes as if they were proposals (Gidaris and Komodakis 2015, §3.2; ResNet paper, appendix B).

    Each region is replaced by the box of its best class, as in the ResNet paper. A head that was trained on proposals
    alone then sees regions that fit better than any in training; docs/more_ap.md has measurements of what that gives.

    Args:
        score: see `Score`.
        scores, boxes: of N images, as `score` has given them for the proposals.
        sizes: (height, width) of the N images, in the frame of the boxes.
        passes: how often to look again.
        keep_all: return the predictions of all passes, as both papers do; otherwise those of the last pass.

    Returns:
        Class scores [P, K+1] and boxes [P, K, 4] of N images. What `usable_boxes` leaves out is not scored again.
    """
    passed = [(scores, boxes)]
    for _ in range(passes):
        regions = [usable_boxes(s, b, size) for s, b, size in zip(scores, boxes, sizes, strict=True)]
        scores, boxes = score(regions)
        passed.append((scores, boxes))
    if not keep_all:
        return scores, boxes
    all_scores = [torch.cat(of_image) for of_image in zip(*(s for s, _ in passed), strict=True)]
    all_boxes = [torch.cat(of_image) for of_image in zip(*(b for _, b in passed), strict=True)]
    return all_scores, all_boxes


def usable_boxes(scores: Tensor, boxes: Tensor, size: Size) -> Tensor:
    """The box of each region's best class, clipped to the image, without those that are not finite or have no area.

    Args:
        scores: [P, K+1], column 0 the background.
        boxes: [P, K, 4] xyxy.
        size: (height, width) of the image.

    Returns:
        [P', 4] with P' ≤ P.
    """
    best = scores[:, 1:].argmax(dim=1)
    chosen = box_ops.clip(boxes[torch.arange(len(boxes), device=boxes.device), best], size)
    return chosen[torch.isfinite(chosen).all(dim=1) & box_ops.is_larger_than(chosen, 0.0)]
