"""Which ground-truth box, if any, each candidate box stands for (Faster R-CNN §3.1.2; Fast R-CNN §2.3)."""

from dataclasses import dataclass

import torch
from torch import Tensor

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1


@dataclass(frozen=True)
class Matches:
    """What P candidate boxes stand for, of one picture or (with a dimension more in front) of several.

    index: [P] int64, the ground-truth box that overlaps each candidate most (0 where there is none at all).
    labels: [P] int64, POSITIVE, NEGATIVE or IGNORED. iou: [P], with the box at `index` (0 where there is none).
    """

    index: Tensor
    labels: Tensor
    iou: Tensor


def match(iou: Tensor, positive_iou: float, negative_iou: float, keep_best: bool) -> Matches:
    """Match candidates to ground truth by IoU.

    Args:
        iou: [G, P], or [N, G, P] of N pictures.
        positive_iou: candidates of at least this IoU with some box are positive.
        negative_iou: candidates below this IoU with every box are negative; those between are ignored.
        keep_best: also make positive, for every ground-truth box, each candidate that reaches the box's highest IoU,
            ties included (§3.1.2, condition i). Such a candidate still stands for the box that *it* overlaps most. A
            box that overlaps no candidate at all makes none positive.

    Returns:
        Matches of P candidates; all negative where there is no ground truth.
    """
    *pictures, boxes, candidates = iou.shape
    if boxes == 0:
        none = torch.zeros(*pictures, candidates, dtype=torch.int64, device=iou.device)
        return Matches(none, torch.full_like(none, NEGATIVE), iou.new_zeros(none.shape))
    best_iou, index = iou.max(dim=-2)
    labels = torch.full_like(index, IGNORED)
    labels[best_iou < negative_iou] = NEGATIVE
    labels[best_iou >= positive_iou] = POSITIVE
    if keep_best and candidates > 0:
        highest = iou.max(dim=-1, keepdim=True).values
        labels[((iou == highest) & (highest > 0)).any(dim=-2)] = POSITIVE
    return Matches(index, labels, best_iou)


def join(first: Matches, second: Matches, offset: int) -> Matches:
    """The matches of the same candidates with two sets of boxes, as those with both together.

    Args:
        offset: how many boxes come before those of `second`.
    """
    index = torch.where(second.iou > first.iou, second.index + offset, first.index)
    labels = torch.full_like(first.labels, IGNORED)
    labels[(first.labels == NEGATIVE) & (second.labels == NEGATIVE)] = NEGATIVE
    labels[(first.labels == POSITIVE) | (second.labels == POSITIVE)] = POSITIVE
    return Matches(index, labels, torch.maximum(first.iou, second.iou))
