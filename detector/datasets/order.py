"""The order in which pictures are trained on: a function of seed, data set and batch size."""

from collections.abc import Iterator

import numpy as np


class GlobalBatches:
    """An endless stream of batches, the pictures of each being all wide or all tall.

    Every epoch is shuffled anew. Its pictures are dealt to their group in that order; whenever a group has a batch's
    worth, a batch is made. What is left at the end of an epoch starts the group's next batch, so no picture is skipped.

    Args:
        indices: [N] of the pictures in the data set.
        groups: [N] bool, the group of each.
        batch_size: pictures of a batch, over all processes.
        seed: of the shuffling.
    """

    def __init__(self, indices: np.ndarray, groups: np.ndarray, batch_size: int, seed: int) -> None:
        self.indices = indices
        self.groups = groups
        self.batch_size = batch_size
        self.seed = seed

    def starting_at(self, first: int) -> Iterator[np.ndarray]:
        """Batches `first`, `first` + 1, …, each [batch_size] of indices."""
        waiting = {False: np.empty(0, dtype=np.int64), True: np.empty(0, dtype=np.int64)}
        made = epoch = 0
        while True:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.indices))
            batches, waiting = self._deal(order, waiting)
            for batch in batches[max(0, first - made) :]:
                yield self.indices[batch]
            made += len(batches)
            epoch += 1

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


def slot_seed(seed: int, iteration: int, place: int) -> int:
    """The seed of everything random about one place of one step's batch: a number below 2⁶²."""
    first, second = np.random.SeedSequence((seed, iteration, place)).generate_state(2, np.uint32)
    return (int(first) << 30) ^ int(second)
