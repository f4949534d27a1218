"""The four losses as pure functions (Faster R-CNN §3.1.2, eq. 1; Fast R-CNN §2.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

Losses = dict[str, Tensor]  # scalars by name; their sum is minimised


def objectness_loss(logits: Tensor, labels: Tensor, normalizer: float) -> Tensor:
    """Binary cross-entropy of sampled anchors, summed and divided by `normalizer`.

    Args:
        logits: [S] float32. labels: [S], 1 for positive and 0 for negative anchors.
    """
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="sum") / normalizer


def box_loss(deltas: Tensor, targets: Tensor, beta: float, normalizer: float | Tensor) -> Tensor:
    """Smooth L1 between the deltas and the targets of S positives, both [S, 4], summed and divided by `normalizer`.

    beta: distance at which the parabola becomes a line; 0 is plain L1.
    """
    return F.smooth_l1_loss(deltas, targets, reduction="sum", beta=beta) / normalizer


def class_loss(logits: Tensor, labels: Tensor, normalizer: float | Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of RoIs over K+1 classes, summed and divided by `normalizer`.

    Args:
        logits: [R, K+1] float32. labels: [R] int64, 0 the background. weights: [K+1] of the labels; None: all 1.
    """
    return F.cross_entropy(logits, labels, weights, reduction="sum") / normalizer


def foreground_deltas(deltas: Tensor, labels: Tensor) -> Tensor:
    """The deltas of each foreground RoI for its own class: [S, K, 4] and labels [S] in 1..K to [S, 4]."""
    return deltas[torch.arange(labels.shape[0], device=labels.device), labels - 1]
