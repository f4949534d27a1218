"""float16's gradients kept in its range: the loss is scaled up before the backward pass, the gradients down after it.

float16 has nothing between 0 and 6e-8, where many gradients lie, and nothing above 65504 (Micikevicius et al. 2018,
Mixed Precision Training, §3.2). The scale halves after a step whose gradients overflowed, which is left out, and
doubles after `GROWS_AFTER` steps without one, as `torch.amp.GradScaler` does. It is a power of two, so scaling rounds
nothing; and it is a function of the steps alone, so a run that goes on from a checkpoint has the same.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from detector.process_group import maximum_over_processes

FIRST, GROWS_AFTER = 2.0**16, 2000
SMALLEST = 1.0  # below it gradients would be made smaller than they are, and it is not their size that is at fault


@dataclass
class LossScale:
    """The scale of the next step.

    value: what the loss is multiplied by. steps: how many were taken since it changed. overflows: how many steps were
    left out because their gradients overflowed, in all.
    """

    value: float = FIRST
    steps: int = 0
    overflows: int = 0

    @property
    def is_exhausted(self) -> bool:
        """Whether gradients overflow however small the scale is."""
        return self.value < SMALLEST

    def count_step(self) -> None:
        """Count a step that was taken; the scale doubles after enough of them."""
        self.steps += 1
        if self.steps >= GROWS_AFTER:
            self.value, self.steps = 2 * self.value, 0

    def count_overflow(self) -> None:
        """Count a step that was left out because of its gradients, and halve the scale."""
        self.value, self.steps = self.value / 2, 0
        self.overflows += 1


def read_loss_scale(stored: Mapping[str, Any] | None) -> LossScale | None:
    """A scale from plain containers, as a checkpoint has it; None for the checkpoint of a run without one.

    Raises:
        TypeError, KeyError, ValueError: it is none.
    """
    if stored is None:
        return None
    scale = LossScale(float(stored["value"]), int(stored["steps"]), int(stored["overflows"]))
    if not (math.isfinite(scale.value) and scale.value >= SMALLEST and scale.steps >= 0 and scale.overflows >= 0):
        raise ValueError(f"loss scale {stored!r}")
    return scale


@torch.no_grad()
def unscale_gradients(model: nn.Module, scale: LossScale) -> None:
    """Divide all gradients by the scale, in place; infinities and NaN stay."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    torch._foreach_mul_(gradients, 1 / scale.value)


def is_overflow(losses: Sequence[Mapping[str, Tensor]]) -> bool:
    """Whether it was the gradients alone that were not finite in a step that may not be taken.

    A loss that is not finite was so before it was scaled, so another scale does not help. All processes must call this.

    Args:
        losses: of this process's micro-batches, scalars by name.
    """
    finite = all(bool(torch.isfinite(loss)) for of_batch in losses for loss in of_batch.values())
    return not maximum_over_processes([int(not finite)])[0]
