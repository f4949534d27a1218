"""The pictures of the next step, on their way to a GPU while it computes the present one.

How it works: when a step's kernels have been given to the GPU, and before the host waits for what they compute, `fetch`
takes the next step's pictures from the data loader, and a stream of its own copies them from page-locked memory. What
is computed does not change. On other devices nothing is taken before it is asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detector.datasets.loading.batch import TrainingBatch
from detector.inference.uploads import copy_stream
from detector.training.process.signals import StoppedError


@dataclass(frozen=True)
class StepBatches:
    """The micro-batches of one step.

    given: in the host's memory, as the data loader gave them. moved: the same for the run's device; on a GPU already.
    waited: seconds that the host waited for them.
    """

    given: Sequence[TrainingBatch]
    moved: Sequence[TrainingBatch]
    waited: float


class Ahead:
    """Steps' batches in order, which a GPU gets one step ahead.

    Args:
        take_batch: the micro-batches of an iteration (1: the first), and the seconds that the host waited for them.
            Called for one after the other.
        device: of the run.
    """

    def __init__(self, take_batch: Callable[[int], tuple[list[TrainingBatch], float]], device: torch.device) -> None:
        self._take_batch = take_batch
        self._device = device
        self._stream = copy_stream(device)
        self._fetched: StepBatches | None = None
        self._failure: Exception | StoppedError | None = None

    def take(self, iteration: int) -> StepBatches:
        """The batches of this iteration, which the GPU's next kernels may use.

        Raises:
            StoppedError: a signal came while they were waited for.
            UserError: they cannot be had. Also where that happened in `fetch`.
        """
        if self._failure is not None:
            raise self._failure
        taken = self._fetched or self._get(iteration)
        self._fetched = None
        if self._stream is not None:
            computing = torch.cuda.current_stream(self._device)
            computing.wait_stream(self._stream)
            for tensor in _tensors(taken.moved):
                tensor.record_stream(computing)  # its memory is not given away before that stream is done with it
        return taken

    def fetch(self, iteration: int) -> None:
        """Begin to bring the batches of this iteration, the next to be taken, to a GPU.

        What fails is raised by `take`: the step that is under way ends first.
        """
        if self._device.type != "cuda" or self._failure is not None:
            return
        try:
            self._fetched = self._get(iteration)
        except (Exception, StoppedError) as error:
            self._failure = error

    def _get(self, iteration: int) -> StepBatches:
        given, waited = self._take_batch(iteration)
        if self._device.type != "cuda":
            return StepBatches(given, given, waited)
        with torch.cuda.stream(self._stream):
            moved = [batch.to(self._device, non_blocking=True) for batch in given]
        return StepBatches(given, moved, waited)


def _tensors(batches: Sequence[TrainingBatch]) -> list[Tensor]:
    """All that was copied."""
    targets = [tensor for batch in batches for target in batch.targets for tensor in (target.boxes, target.labels)]
    return [batch.images.pixels for batch in batches] + targets
