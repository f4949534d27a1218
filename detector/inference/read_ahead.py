"""Many pictures through a predictor: read ahead in threads, while the network is busy with earlier ones."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from detector.datasets.pictures.read import read_image
from detector.errors import UserError
from detector.inference.augmented import Augment
from detector.inference.batches import in_batches
from detector.inference.detections import Detections
from detector.inference.predictor import Predictor


def detect_all(
    predictor: Predictor, paths: Sequence[Path], score_threshold: float, batch_size: int, augment: Augment = None
) -> Generator[UserError | tuple[np.ndarray, Detections], None, None]:
    """Yield, for each path in order, the picture ([H, W, 3] uint8 RGB) and its detections, or why it was not read."""
    settings = predictor.config.input
    read = partial(read_image, max_pixels=settings.max_pixels, bit_depth=settings.bit_depth)
    with closing(read_ahead(paths, 2 * batch_size, read)) as images:
        for batch in in_batches(images, batch_size):
            readable = [image for image in batch if not isinstance(image, UserError)]
            detections = iter(predictor.predict(readable, score_threshold, batch_size, augment=augment))
            for image in batch:
                yield image if isinstance(image, UserError) else (image, next(detections))


def read_ahead(
    paths: Iterable[Path], count: int, read: Callable[[Path], np.ndarray] = read_image
) -> Generator[np.ndarray | UserError, None, None]:
    """Read pictures in order, `count` of them ahead in threads: [H, W, 3] uint8 RGB each, or why it cannot be read.

    Closing it waits for the pictures that are being read, and reads no more.
    """
    pool = ThreadPoolExecutor(max_workers=2)
    waiting: deque[Future[np.ndarray | UserError]] = deque()
    remaining = iter(paths)
    try:
        waiting.extend(pool.submit(_try_to_read, read, path) for path in islice(remaining, count))
        while waiting:
            image = waiting.popleft().result()
            waiting.extend(pool.submit(_try_to_read, read, path) for path in islice(remaining, 1))
            yield image
    finally:
        pool.shutdown(cancel_futures=True)


def _try_to_read(read: Callable[[Path], np.ndarray], path: Path) -> np.ndarray | UserError:
    """The picture, or why it cannot be read."""
    try:
        return read(path)
    except UserError as error:
        return error
