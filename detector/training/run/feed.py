"""The stream of a run's micro-batches, one list for every step."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager

from detector.datasets.loading.batch import TrainingBatch
from detector.errors import UserError


def steps(batches: Iterator[TrainingBatch], accumulate: int, iteration: int) -> Iterator[list[TrainingBatch]]:
    """Group micro-batches into steps.

    Args:
        batches: this process's micro-batches from the step after `iteration` on, without end.
        accumulate: micro-batches of a step.
    """
    while True:
        group = [next(batches) for _ in range(accumulate)]
        assert all(batch.iteration == iteration for batch in group), "the data loader and the run are out of step"
        yield group
        iteration += 1


@contextmanager
def no_workers_left() -> Iterator[None]:
    """Kill child processes that were started within this context and still run at its end.

    A data loader asks its workers to end; one that hangs, on a network disk say, would keep the whole run from ending.
    """
    before = set(multiprocessing.active_children())
    try:
        yield
    finally:
        for child in set(multiprocessing.active_children()) - before:
            child.kill()


@contextmanager
def explain_dead_worker() -> Iterator[None]:
    """Within this context, turn the death of a data loading process, which torch may report anywhere, into a sentence.

    Raises:
        UserError: in its place.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        reason = " ".join(str(error).split())
        raise UserError(
            f"a process of the data loader has died ({reason}); if the system ran out of memory, lower "
            "data.num_workers, and data.num_workers=0 shows errors of reading where they happen. --resume goes on from "
            "the last checkpoint."
        ) from None
