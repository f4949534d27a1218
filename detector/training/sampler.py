"""A random, balanced subset of positives and negatives (Faster R-CNN §3.1.3; Fast R-CNN §2.3)."""

import torch
from torch import Tensor

from detector.training.matcher import NEGATIVE, POSITIVE


def sample(labels: Tensor, count: int, positive_fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Choose up to `count` candidates, at most `positive_fraction` of them positive; negatives fill the rest.

    Args:
        labels: [P] int64, POSITIVE, NEGATIVE or IGNORED.
        seed: the choice is a function of `labels` and this number alone, so a resumed run chooses the same.

    Returns:
        Indices of the chosen positives and of the chosen negatives, int64, each in random order.
    """
    positives = torch.nonzero(labels == POSITIVE).flatten()
    negatives = torch.nonzero(labels == NEGATIVE).flatten()
    positive_count = min(int(count * positive_fraction), positives.shape[0])
    negative_count = min(count - positive_count, negatives.shape[0])
    # The order is drawn on the CPU: the same seed then chooses the same on every device.
    generator = torch.Generator().manual_seed(seed)
    return (
        positives[_random_prefix(positives.shape[0], positive_count, generator).to(labels.device)],
        negatives[_random_prefix(negatives.shape[0], negative_count, generator).to(labels.device)],
    )


def _random_prefix(total: int, count: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(total, generator=generator)[:count]
