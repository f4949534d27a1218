import multiprocessing
import time
from collections.abc import Iterator, Sequence

import pytest
import torch

from detector.datasets.loading.batch import TrainingBatch
from detector.errors import UserError
from detector.structures import ImageBatch
from detector.training.run.feed import explain_dead_worker, no_workers_left, steps


def make_batch(iteration: int) -> TrainingBatch:
    return TrainingBatch(iteration, ImageBatch(torch.zeros(1, 3, 1, 1), [(1, 1)], [(1, 1)], [iteration]), [], [0])


def make_stream(iterations: Sequence[int]) -> Iterator[TrainingBatch]:
    return (make_batch(i) for i in iterations)


def test_micro_batches_are_grouped_into_steps() -> None:
    stream = make_stream((5, 5, 6, 6, 7, 7))
    grouped = steps(stream, accumulate=2, iteration=5)
    assert [[b.iteration for b in next(grouped)] for _ in range(3)] == [[5, 5], [6, 6], [7, 7]]


def test_a_loader_out_of_step_is_our_own_error() -> None:
    with pytest.raises(AssertionError, match="out of step"):
        next(steps(make_stream([5]), accumulate=1, iteration=6))


def test_processes_that_hang_are_ended_and_older_ones_left_alone() -> None:
    context = multiprocessing.get_context("spawn")
    older, newer = (context.Process(target=time.sleep, args=(600,), daemon=True) for _ in range(2))
    older.start()
    try:
        with no_workers_left():
            newer.start()
        newer.join(60)
        assert newer.exitcode == -9
        assert older.is_alive()
    finally:
        older.kill()
        older.join()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), UserError),
        (RuntimeError("shape mismatch"), RuntimeError),
    ],
)
def test_a_dead_worker_is_one_sentence(error: Exception, expected: type[Exception]) -> None:
    with pytest.raises(expected) as caught, explain_dead_worker():
        raise error
    assert type(caught.value) is expected
    assert ("lower data.num_workers" in str(caught.value)) == (expected is UserError)
