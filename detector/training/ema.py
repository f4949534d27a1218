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
        self._averages = _tensors(self.model)
        self._followed: nn.Module = model
        self._values = _tensors(model)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Follow `model` by one step; whole-number buffers (counters) are copied."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        if model is not self._followed:
            self._followed, self._values = model, _tensors(model)
        (averages, counters), (values, counts) = self._averages, self._values
        torch._foreach_lerp_(averages, values, 1 - decay)
        for counter, count in zip(counters, counts, strict=True):
            counter.copy_(count)


def _tensors(model: nn.Module) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The floating-point parameters and buffers of a model, and its other buffers; they stay the same as it trains.

    Walking through a large model at every step would take milliseconds.
    """
    tensors = [*model.parameters(), *model.buffers()]
    return [t for t in tensors if t.is_floating_point()], [t for t in tensors if not t.is_floating_point()]
