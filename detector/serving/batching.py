"""One thread that owns the network, and a bounded queue of pictures before it."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from detector.inference.detections import Detections

LONGEST_WAIT = 0.010  # seconds that a picture waits for one that is on its way, to share a pass with it

Predict = Callable[[Sequence[np.ndarray]], list[Detections]]


@dataclass
class _Waiting:
    image: np.ndarray
    answer: "Future[Detections]" = field(default_factory=Future)


class Batcher:
    """Puts pictures that wait at the same time through the network together.

    Where a batch fails, its pictures are tried one by one, so that one of them does not take the others along.

    Args:
        predict: from pictures, each [H, W, 3] uint8 RGB, to their detections; only ever called in one thread.
        batch_size: pictures of a batch at most; 1 never waits for a second.
        on_batch: called with the number of pictures and the seconds of every pass.
        is_another_coming: whether a picture will be submitted at once; without one, nobody waits for company.
    """

    def __init__(
        self,
        predict: Predict,
        batch_size: int,
        on_batch: Callable[[int, float], None] = lambda _count, _seconds: None,
        is_another_coming: Callable[[], bool] = lambda: False,
    ) -> None:
        self._predict = predict
        self._batch_size = batch_size
        self._on_batch = on_batch
        self._is_another_coming = is_another_coming
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="network", daemon=True)
        self._thread.start()

    def submit(self, image: np.ndarray) -> "Future[Detections]":
        """Queue a picture. A future that is cancelled before its turn takes no time of the network."""
        waiting = _Waiting(image)
        self._queue.put(waiting)
        return waiting.answer

    @property
    def length(self) -> int:
        """Pictures that wait."""
        return self._queue.qsize()

    def close(self) -> None:
        """Finish what was submitted, and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = self._take()
            batch = [one for one in batch if one.answer.set_running_or_notify_cancel()]
            if batch:
                self._run(batch)

    def _take(self) -> tuple[list[_Waiting], bool]:
        """The next batch, and whether another can follow."""
        first = self._queue.get()
        if first is None:
            return [], False
        batch, until = [first], time.monotonic() + LONGEST_WAIT
        while len(batch) < self._batch_size:
            wait = max(until - time.monotonic(), 0) if self._is_another_coming() else 0
            try:
                one = self._queue.get(timeout=wait)
            except queue.Empty:
                break
            if one is None:
                return batch, False
            batch.append(one)
        return batch, True

    def _run(self, batch: list[_Waiting]) -> None:
        began = time.perf_counter()
        try:
            answers = self._predict([one.image for one in batch])
        except Exception as error:  # whatever it is, the caller of this picture gets it, and the thread goes on
            if len(batch) > 1:
                for one in batch:
                    self._run([one])
            else:
                batch[0].answer.set_exception(error)
            return
        self._on_batch(len(batch), time.perf_counter() - began)
        for one, answer in zip(batch, answers, strict=True):
            one.answer.set_result(answer)
