"""Many networks trained at once, each in a process of its own on one thread, with one bar for all of them."""

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import torch
from tqdm import tqdm

Spec = TypeVar("Spec")
Result = TypeVar("Result")
Advance = Callable[[int], None]


def run_all(
    train: Callable[[Spec, Advance], Result], specs: Sequence[Spec], steps: int, processes: int
) -> Iterator[Result]:
    """Train several networks, and yield each one's result when it is there.

    Args:
        train: can be pickled. It takes one of `specs`, and what it calls with the number of further steps that are
            done.
        specs: begun in this order; the longest first, lest the last runs alone.
        steps: of each.
        processes: at a time.
    """
    context = multiprocessing.get_context("spawn")  # not by fork: torch's threads would not come along
    # Ctrl-C is for the parent, which ends its workers.
    ignore = (signal.SIGINT, signal.SIG_IGN)
    with (
        context.Manager() as manager,
        context.Pool(processes, initializer=signal.signal, initargs=ignore) as pool,
        tqdm(total=steps * len(specs), unit="step", desc=f"{len(specs)} networks", smoothing=0.02) as bar,
    ):
        ticks = manager.Queue()
        shower = threading.Thread(target=_show, args=(ticks.get, bar.update), daemon=True)
        shower.start()
        try:
            yield from pool.imap_unordered(_Run(train, ticks.put), specs)
        finally:
            ticks.put(None)
            shower.join()


class _Run(Generic[Spec, Result]):
    """`train` on one thread, told to the parent as it goes."""

    def __init__(self, train: Callable[[Spec, Advance], Result], advance: Advance) -> None:
        self.train = train
        self.advance = advance

    def __call__(self, spec: Spec) -> Result:
        torch.set_num_threads(1)
        return self.train(spec, self.advance)


def _show(next_tick: Callable[[], int | None], update: Advance) -> None:
    """Move the bar by each tick until one is None."""
    for tick in iter(next_tick, None):
        update(tick)
