"""What the processes that prepare pictures do: read, transform and batch them."""

import signal
from dataclasses import dataclass

import cv2
import numpy as np
from torch.utils.data import Dataset

from detector.config import InputConfig
from detector.datasets.dataset import DetectionDataset
from detector.datasets.loading.batch import PreparedImage, TrainingBatch, collate
from detector.datasets.loading.order import Slot
from detector.datasets.pictures.read import ImageError, read_image
from detector.datasets.pictures.transforms import TrainTransform, prepare_for_test, prepare_target
from detector.structures import Sample

SIGTERM_GRACE = 60  # seconds that a worker outlives SIGTERM
MAX_TRIES = 20  # pictures in a row that cannot be used


@dataclass(frozen=True)
class Refusal:
    """What is wrong with pictures of which none can be used, as a worker sends it to the main process.

    It is not an exception: those that cross a process boundary carry both tracebacks in their message.
    """

    problems: list[str]


class TrainingPictures(Dataset["TrainingBatch | Refusal"]):
    """Whole micro-batches: a worker prepares the pictures of one after another.

    Where a picture cannot be used, the next one that can be takes its place, always the same.

    Args:
        following: see `next_of_group`.
    """

    def __init__(
        self, dataset: DetectionDataset, transform: TrainTransform, pad_to_multiple: int, following: np.ndarray
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.pad_to_multiple = pad_to_multiple
        self.following = following

    def __getitem__(self, slots: list[Slot]) -> "TrainingBatch | Refusal":
        prepared: list[PreparedImage] = []
        problems: list[str] = []
        for slot in slots:
            before = len(problems)
            usable = self._first_usable(slot.index, problems)
            if usable is None:
                return Refusal(problems[before:])
            sample, image = usable
            pixels, target = self.transform(image, sample, np.random.default_rng(slot.seed))
            prepared.append(PreparedImage(pixels, target, (image.shape[0], image.shape[1]), sample.image_id))
        images, targets = collate(prepared, self.pad_to_multiple)
        return TrainingBatch(slots[0].iteration, images, targets, [slot.seed for slot in slots], problems)

    def _first_usable(self, index: int, problems: list[str]) -> tuple[Sample, np.ndarray] | None:
        """A picture or what takes its place; what is wrong with those passed over is added to `problems`."""
        first = index
        for _ in range(MAX_TRIES):
            sample = self.dataset[index]
            try:
                return sample, _read(sample, self.transform.input)
            except ImageError as error:
                problems.append(str(error))
            index = int(self.following[index])
            if index == first:
                break
        return None


class EvaluationPictures(Dataset["TrainingBatch | Refusal"]):
    """Batches of pictures at test size with their ground truth; the seed of an image is its place in the data set."""

    def __init__(self, dataset: DetectionDataset, config: InputConfig) -> None:
        self.dataset = dataset
        self.config = config

    def __getitem__(self, indices: list[int]) -> "TrainingBatch | Refusal":
        prepared: list[PreparedImage] = []
        used: list[int] = []
        problems: list[str] = []
        for index in indices:
            sample = self.dataset[index]
            try:
                image = _read(sample, self.config)
            except ImageError as error:
                problems.append(str(error))
                continue
            size = (image.shape[0], image.shape[1])
            pixels = prepare_for_test(image, self.config)
            target = prepare_target(sample, (pixels.shape[0], pixels.shape[1]), size)
            prepared.append(PreparedImage(pixels, target, size, sample.image_id))
            used.append(index)
        if not prepared:
            return Refusal(problems)
        images, targets = collate(prepared, self.config.pad_to_multiple)
        return TrainingBatch(0, images, targets, used, problems)


def start_worker(worker: int) -> None:
    """Prepare a worker process: it ignores Ctrl-C, outlives SIGTERM for a while, and uses a single thread.

    Ctrl-C and a scheduler's SIGTERM reach every process of a job, but the main one needs its pictures until it has
    finished its step and saved. Workers end when it tells them to, or when it is gone. Python also sends SIGTERM to
    those that a crashed main process left behind; they then end after `SIGTERM_GRACE` seconds.

    Args:
        worker: its number, which torch passes.
    """
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, lambda _number, _frame: signal.alarm(SIGTERM_GRACE))
    cv2.setNumThreads(0)  # the workers are the parallelism


def _read(sample: Sample, config: InputConfig) -> np.ndarray:
    """The picture of a sample, of the size that its boxes are meant for."""
    try:
        image = read_image(sample.path, config.max_pixels, config.bit_depth)
    except ImageError as error:
        raise ImageError(f"image {sample.image_id}: {error}") from None
    height, width = image.shape[:2]
    if sample.size is not None and sample.size != (height, width):
        raise ImageError(
            f"image {sample.image_id}: {sample.path} is {width}x{height} pixels when upright, but the annotations say "
            f"{sample.size[1]}x{sample.size[0]}, so their boxes may not fit it; correct them (faster-rcnn "
            "check-data lists all such pictures)."
        )
    return image
