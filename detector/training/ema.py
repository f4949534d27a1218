"""An exponential moving average of the weights, evaluated and saved instead of the last ones."""

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


class AveragedModel(Generic[Model]):
    """A second model whose floating-point weights and buffers follow the trained one's.

    Args:
        model: the trained model; it is copied.
        decay: share of the old average kept at each update, e.g. 0.999. The first updates keep less, (1 + t) / (10 + t)
            after t of them, so that the random start is soon forgotten.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.model: Model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Follow `model` by one step; whole-number buffers (counters) are copied."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        averages, values = [], []
        for average, value in zip(_tensors(self.model), _tensors(model), strict=True):
            if average.is_floating_point():
                averages.append(average)
                values.append(value)
            else:
                average.copy_(value)
        torch._foreach_lerp_(averages, values, 1 - decay)


def _tensors(model: nn.Module) -> list[torch.Tensor]:
    # By `.data` and buffers rather than state_dict(), which builds a dictionary with hooks at every step.
    return [p.data for p in model.parameters()] + list(model.buffers())
