from collections.abc import Iterator

import pytest
import torch

from detector.datasets.loader import TrainingBatch
from detector.errors import UserError
from detector.structures import ImageBatch
from detector.training.feed import steps


def make_batch(iteration: int) -> TrainingBatch:
    return TrainingBatch(iteration, ImageBatch(torch.zeros(1, 3, 1, 1), [(1, 1)], [(1, 1)], [iteration]), [], [0])


def test_micro_batches_are_grouped_into_steps() -> None:
    stream = iter([make_batch(i) for i in (5, 5, 6, 6, 7, 7)])
    grouped = steps(stream, accumulate=2, iteration=5)
    assert [[b.iteration for b in next(grouped)] for _ in range(3)] == [[5, 5], [6, 6], [7, 7]]


def test_a_loader_out_of_step_is_our_own_error() -> None:
    with pytest.raises(AssertionError, match="out of step"):
        next(steps(iter([make_batch(5)]), accumulate=1, iteration=6))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), UserError),
        (RuntimeError("shape mismatch"), RuntimeError),
    ],
)
def test_a_dead_worker_is_one_sentence(error: Exception, expected: type[Exception]) -> None:
    def stream() -> Iterator[TrainingBatch]:
        raise error
        yield

    with pytest.raises(expected) as caught:
        next(steps(stream(), accumulate=1, iteration=0))
    assert type(caught.value) is expected
    assert ("lower data.num_workers" in str(caught.value)) == (expected is UserError)
