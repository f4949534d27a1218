"""Boxes that overlap are taken as witnesses of one object and averaged, in two ways: box voting and weighted fusion."""

import torch
from torch import Tensor

from detector import boxes as box_ops


def vote(
    kept: Tensor, kept_classes: Tensor, boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float
) -> Tensor:
    """Move each kept box to the mean of the boxes that support it, weighted by their scores (box voting).

    Gidaris and Komodakis 2015, §3.3 ("Object detection via a multi-region & semantic segmentation-aware CNN model").
    The scores of kept boxes stay as they are.

    Args:
        kept: [D, 4] xyxy, boxes that NMS has kept.
        kept_classes: [D] integers.
        boxes: [B, 4] xyxy, the boxes before NMS, in the frame of `kept`.
        scores: [B], their weights; negative ones count as 0.
        classes: [B] integers.
        threshold: boxes of the same class with an IoU of at least this take part.

    Returns:
        [D, 4] of the type of `kept`; a box without support stays.
    """
    moved = kept.clone()
    weights = scores.double().clamp(min=0)
    for label in sorted(set(kept_classes.tolist())):
        rows = torch.nonzero(kept_classes == label).flatten()
        members = classes == label
        supports = box_ops.pairwise_iou(kept[rows], boxes[members]) >= threshold
        shares = supports * weights[members]
        total = shares.sum(dim=1, keepdim=True)
        means = (shares @ boxes[members].double()) / total
        moved[rows] = torch.where(total > 0, means, kept[rows].double()).to(kept.dtype)
    return moved


def fuse_boxes(
    boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float, sources: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted boxes fusion (Solovyev et al. 2021): boxes that overlap become one, their mean weighted by score.

    In descending order of score each box joins the cluster of its class whose mean it overlaps most, if by more than
    `threshold`, and moves that mean; else it opens a cluster. A cluster's score is the mean of its boxes' scores, times
    min(boxes, sources) / sources: what few of the sources have seen is worth less.

    Args:
        boxes: [B, 4] xyxy of one image.
        scores: [B], positive.
        classes: [B] integers.
        threshold: IoU.
        sources: how many models or views the boxes come from.

    Returns:
        Boxes [C, 4], scores [C] and classes [C] of the clusters, descending by score, of the types given.
    """
    device = boxes.device
    # On the CPU: boxes are taken one by one, and on a GPU the host would wait for each.
    order = scores.argsort(descending=True, stable=True).cpu()
    sorted_boxes, sorted_scores = boxes.cpu()[order].double(), scores.cpu()[order].double()
    fused: list[Tensor] = [sorted_boxes[:0]]
    fused_scores: list[Tensor] = [sorted_scores[:0]]
    fused_classes: list[Tensor] = [classes[:0].cpu()]
    sorted_classes = classes.cpu()[order]
    for label in sorted(set(classes.tolist())):
        of_class = sorted_classes == label
        means, totals, counts = _clusters(sorted_boxes[of_class], sorted_scores[of_class], threshold)
        fused.append(means)
        fused_scores.append(totals / counts * counts.clamp(max=sources) / sources)
        fused_classes.append(torch.full((len(means),), label, dtype=classes.dtype))
    values = torch.cat(fused_scores)
    ranked = values.argsort(descending=True, stable=True)
    return (
        torch.cat(fused)[ranked].to(device, boxes.dtype),
        values[ranked].to(device, scores.dtype),
        torch.cat(fused_classes)[ranked].to(device),
    )


def _clusters(boxes: Tensor, scores: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """The clusters of one class: weighted means [C, 4], sums of scores [C], numbers of boxes [C]; all float64.

    Args:
        boxes: [B, 4], scores: [B], both float64, descending by score.
    """
    sums, means = torch.zeros_like(boxes), torch.zeros_like(boxes)
    totals, counts = torch.zeros_like(scores), torch.zeros_like(scores)
    clusters = 0
    for box, score in zip(boxes, scores, strict=True):
        iou = box_ops.pairwise_iou(box[None], means[:clusters])[0]
        place = int(iou.argmax()) if clusters else 0
        if not clusters or not iou[place] > threshold:
            place, clusters = clusters, clusters + 1
        sums[place] += score * box
        totals[place] += score
        counts[place] += 1
        means[place] = sums[place] / totals[place]
    return means[:clusters], totals[:clusters], counts[:clusters]
