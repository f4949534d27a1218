"""Which pictures go together: in training a function of seed, data set and batch size, in testing of their sizes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from detector.config import InputConfig
from detector.datasets.dataset import DetectionDataset
from detector.datasets.pictures.sizes import resized_size
from detector.structures import Size


class GlobalBatches:
    """An endless stream of batches, the pictures of each being all wide or all tall.

    Every epoch is shuffled anew. Its pictures are dealt to their group in that order; whenever a group has a batch's
    worth, a batch is made. What is left at the end of an epoch starts the group's next batch, so no picture is skipped.

    Args:
        indices: [N] of the pictures in the data set.
        groups: [N] bool, the group of each.
        batch_size: pictures of a batch, over all processes.
        seed: of the shuffling.
        repeats: [N] float64, 1 or more: how often an epoch shows each picture in the mean; what is over a whole number
            is the chance of one time more, drawn for every epoch. None: each once.
    """

    def __init__(
        self,
        indices: np.ndarray,
        groups: np.ndarray,
        batch_size: int,
        seed: int,
        repeats: np.ndarray | None = None,
    ) -> None:
        self.indices = indices
        self.groups = groups
        self.batch_size = batch_size
        self.seed = seed
        self.repeats = repeats

    def starting_at(self, first: int) -> Iterator[np.ndarray]:
        """Yield batches `first`, `first` + 1, …, each [batch_size] int64 indices; earlier ones are only counted."""
        waiting = {False: np.empty(0, dtype=np.int64), True: np.empty(0, dtype=np.int64)}
        made = epoch = 0
        while True:
            order = self._epoch(np.random.default_rng((self.seed, epoch)))
            batches, waiting = self._deal(order, waiting)
            for batch in batches[max(0, first - made) :]:
                yield self.indices[batch]
            made += len(batches)
            epoch += 1

    def _epoch(self, generator: np.random.Generator) -> np.ndarray:
        """The places of one epoch's pictures in `indices`, shuffled."""
        if self.repeats is None:
            return generator.permutation(len(self.indices))
        whole = np.floor(self.repeats).astype(np.int64)
        counts = whole + (generator.random(len(whole)) < self.repeats - whole)
        return generator.permutation(np.repeat(np.arange(len(self.indices)), counts))

    def _deal(
        self, order: np.ndarray, waiting: dict[bool, np.ndarray]
    ) -> tuple[list[np.ndarray], dict[bool, np.ndarray]]:
        """The batches that one epoch completes, in the order in which they are completed, and what is left."""
        completed: list[tuple[int, np.ndarray]] = []
        left = {}
        for group, before in waiting.items():
            places = np.flatnonzero(self.groups[order] == group)
            stream = np.concatenate((before, order[places]))
            # A batch is complete when its last picture is dealt.
            completed += [
                (int(places[end - len(before) - 1]), stream[end - self.batch_size : end])
                for end in range(self.batch_size, len(stream) + 1, self.batch_size)
            ]
            left[group] = stream[len(stream) - len(stream) % self.batch_size :]
        completed.sort(key=lambda item: item[0])
        return [batch for _, batch in completed], left


@dataclass(frozen=True)
class Slot:
    """One place of one step: which picture stands there, and the seed of all that is random about it."""

    iteration: int
    index: int
    seed: int


class MicroBatchSampler(Sampler[list[Slot]]):
    """One process's micro-batches from a step on, without end: its contiguous share of each batch, cut into pieces."""

    def __init__(self, batches: GlobalBatches, start: int, accumulate: int, rank: int, world_size: int) -> None:
        self.batches = batches
        self.start = start
        self.accumulate = accumulate
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[list[Slot]]:
        share = self.batches.batch_size // self.world_size
        micro = share // self.accumulate
        for iteration, indices in enumerate(self.batches.starting_at(self.start), start=self.start):
            for first in range(self.rank * share, (self.rank + 1) * share, micro):
                yield [
                    Slot(iteration, int(indices[place]), slot_seed(self.batches.seed, iteration, place))
                    for place in range(first, first + micro)
                ]


def slot_seed(seed: int, iteration: int, place: int) -> int:
    """The seed of everything random about one place of one step's batch: a number below 2⁶²."""
    first, second = np.random.SeedSequence((seed, iteration, place)).generate_state(2, np.uint32)
    return (int(first) << 30) ^ int(second)


def equal_size_batches(dataset: DetectionDataset, config: InputConfig, batch_size: int) -> list[list[int]]:
    """All pictures in batches of at most `batch_size` whose input images have one size, so that none is padded.

    A picture of unknown size is alone. Batches come in the order of their first picture.
    """
    batches: list[list[int]] = []
    filling: dict[Size, list[int]] = {}
    for index in range(len(dataset)):
        size = dataset.size(index)
        if size is None:
            batches.append([index])
            continue
        input_size = resized_size(size, config.min_size_test, config.max_size_test, config.resize)
        batch = filling.get(input_size)
        if batch is None or len(batch) == batch_size:
            batch = filling[input_size] = []
            batches.append(batch)
        batch.append(index)
    return batches
