"""Boxes for NMS that overlap in every way that has ever mattered, the best first."""

import torch
from torch import Tensor

ARRANGEMENTS = ("spread", "clustered", "chain", "grid", "degenerate", "copies", "long chain")
THRESHOLDS = (0.3, 0.5, 0.7)


def arranged(kind: str, count: int, generator: torch.Generator) -> Tensor:
    """[count, 4] float32 xyxy. `grid` and `copies` give IoUs that are equal, also to a threshold; `chain`s are boxes
    of which each overlaps the next, so that each decision waits for the one before."""

    def uniform(scale: float) -> Tensor:
        return torch.rand(count, 2, generator=generator) * scale

    def whole(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (count, 2), generator=generator).float()

    steps = torch.arange(count, dtype=torch.float32)[:, None]
    if kind == "spread":
        corners, extents = uniform(1000), uniform(200) + 5
    elif kind == "clustered":
        corners = torch.randint(0, 6, (count, 1), generator=generator) * 50.0 + uniform(30)
        extents = uniform(40) + 80
    elif kind == "chain":
        corners, extents = torch.cat((steps * 3.0, torch.zeros_like(steps)), dim=1), torch.full((count, 2), 10.0)
    elif kind == "long chain":
        corners, extents = torch.cat((steps, steps), dim=1), torch.full((count, 2), 50.0)
    elif kind == "grid":
        corners, extents = whole(0, 12) * 8, whole(1, 6) * 16
    elif kind == "copies":
        corners, extents = whole(0, 3) * 10, torch.full((count, 2), 10.0)
    else:
        corners, extents = uniform(50), (uniform(20) - 2).clamp(min=0)
    return torch.cat((corners, corners + extents), dim=1)
