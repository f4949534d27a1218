"""Soft-NMS: boxes that overlap a better one are not dropped, their scores decay (Bodla et al. 2017)."""

import torch
from torch import Tensor

from detector import boxes as box_ops


def linear_decay(iou: Tensor, threshold: float) -> Tensor:
    """What scores are multiplied by, equation 2 of the paper: 1 − IoU where IoU reaches the threshold, else 1."""
    return torch.where(iou >= threshold, 1 - iou, torch.ones_like(iou))


def gaussian_decay(iou: Tensor, sigma: float) -> Tensor:
    """What scores are multiplied by, equation 3 of the paper: exp(−IoU² / σ)."""
    return torch.exp(-iou.square() / sigma)


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    nms_threshold: float | None,
    sigma: float,
    score_threshold: float,
    limit: int,
) -> tuple[Tensor, Tensor]:
    """Choose boxes one by one; each chosen one lowers the scores of those of its class that overlap it.

    Args:
        boxes: [B, 4] xyxy of one image.
        scores: [B].
        classes: [B] integers; boxes of different classes do not lower each other's scores.
        nms_threshold: IoU from which the linear form lowers scores; None for the Gaussian form.
        sigma: of the Gaussian form.
        score_threshold: boxes whose lowered score is not above it are not chosen.
        limit: how many boxes are chosen at most, of all classes together.

    Returns:
        Indices of the chosen boxes, [D] int64, and their lowered scores, [D], descending.
    """
    device = boxes.device
    # Every choice depends on the one before: on a GPU the host would wait for each.
    boxes, scores, classes = boxes.cpu(), scores.cpu(), classes.cpu()
    chosen: list[Tensor] = [torch.zeros(0, dtype=torch.int64)]
    lowered: list[Tensor] = [scores[:0]]
    for label in sorted(set(classes.tolist())):
        members = torch.nonzero(classes == label).flatten()
        left, remaining = boxes[members], scores[members].clone()
        # Each choice of a class scores no more than the one before, so none beyond the limit can be among the best.
        for _ in range(min(limit, len(members))):
            best = int(remaining.argmax())
            if not remaining[best] > score_threshold:
                break
            chosen.append(members[best : best + 1])
            lowered.append(remaining[best : best + 1].clone())
            iou = box_ops.pairwise_iou(left[best : best + 1], left)[0]
            decay = gaussian_decay(iou, sigma) if nms_threshold is None else linear_decay(iou, nms_threshold)
            remaining *= decay
            remaining[best] = -torch.inf
    numbers, values = torch.cat(chosen), torch.cat(lowered)
    order = values.argsort(descending=True, stable=True)[:limit]
    return numbers[order].to(device), values[order].to(device)
