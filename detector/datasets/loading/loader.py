"""The processes that prepare pictures: for training in the order of `order`, for evaluation each picture once.

What a batch holds depends on the seed, the data set and the batch size alone: not on the number of processes, of
workers, or of interruptions. Batch i of a run is the same pictures, cropped and flipped the same way, however reached.
"""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from detector.config import Config, InputConfig
from detector.datasets.dataset import DetectionDataset
from detector.datasets.loading.batch import PreparedImage, collate
from detector.datasets.loading.left_out import IN_EVALUATION, IN_TRAINING, LeftOut, next_of_group
from detector.datasets.loading.order import GlobalBatches, MicroBatchSampler, Slot, equal_size_batches
from detector.datasets.pictures.read import ImageError, read_image
from detector.datasets.pictures.transforms import TrainTransform, prepare_for_test, prepare_target
from detector.errors import UserError
from detector.structures import ImageBatch, Sample, Target

SIGTERM_GRACE = 60  # seconds that a worker outlives SIGTERM
PREFETCHED_BATCHES = 2  # a worker; they lie in shared memory, of which containers often have little
MAX_TRIES = 20  # pictures in a row that cannot be used


@dataclass
class TrainingBatch:
    """A micro-batch with its ground truth.

    iteration: the step it belongs to. seeds: one number per image for the model's samplers. left_out: what is wrong
    with pictures that should have been in it.
    """

    iteration: int
    images: ImageBatch
    targets: list[Target]
    seeds: list[int]
    left_out: list[str] = field(default_factory=list)

    def pin_memory(self) -> "TrainingBatch":
        """Copy the batch into page-locked memory, from which a GPU reads without the processor's help."""
        pinned = [target.pin_memory() for target in self.targets]
        return TrainingBatch(self.iteration, self.images.pin_memory(), pinned, self.seeds, self.left_out)


@dataclass(frozen=True)
class Refusal:
    """What is wrong with pictures of which none can be used, on its way to the main process.

    An exception that crosses a process boundary carries the traceback of both in its message.
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


class ValidationLoader:
    """Batches with their ground truth; `len` is how many there are, with those of which no picture can be used."""

    def __init__(self, loader: "DataLoader[TrainingBatch | Refusal]", length: int, left_out: LeftOut) -> None:
        self.loader = loader
        self.length = length
        self.left_out = left_out

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[TrainingBatch]:
        for batch in self.loader:
            if isinstance(batch, Refusal):
                self.left_out.note(batch.problems)
            else:
                self.left_out.note(batch.left_out)
                yield batch


class EvaluationLoader(ValidationLoader):
    """Batches of images alone."""

    def __iter__(self) -> Iterator[ImageBatch]:  # type: ignore[override]
        return (batch.images for batch in super().__iter__())


class TrainingStream(Iterator[TrainingBatch]):
    """Micro-batches without end. The worker processes start with the first one and end with `close`.

    Not a generator: an exception, such as a signal's in the middle of waiting, leaves it and its workers as they are.
    """

    def __init__(self, loader: "DataLoader[TrainingBatch | Refusal]", left_out: LeftOut) -> None:
        self._loader = loader
        self._left_out = left_out
        self._batches: Iterator[TrainingBatch | Refusal] | None = None

    def __next__(self) -> TrainingBatch:
        if self._batches is None:
            self._batches = iter(self._loader)
        batch = next(self._batches)
        if isinstance(batch, Refusal):
            raise ImageError(
                f"{len(batch.problems)} pictures in a row cannot be used, the first is {batch.problems[0]}"
            )
        self._left_out.note(batch.left_out)
        return batch

    def close(self) -> None:
        """End the workers: torch does so when nobody holds their iterator any more."""
        self._batches = None


def training_loader(
    dataset: DetectionDataset,
    config: Config,
    start_iteration: int = 0,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | None = None,
    warn: Callable[[str], None] | None = None,
) -> "TrainingStream":
    """This process's micro-batches from step `start_iteration` on, without end; `train.accumulate` of them are a step.

    The pictures of a step are one batch over all processes, of which each takes a contiguous share.

    Args:
        device: that the batches will go to; memory is pinned for a CUDA device. None: for any there is.
        warn: says which pictures cannot be read, or have another size than their annotations say; others take their
            places. None, as with `data.skip_unreadable_images=false`: such a picture raises.

    Raises:
        UserError: the batch cannot be divided or there is nothing to train on; and from `next` an `ImageError`: a
            picture cannot be used, or so many that something else must be wrong.
    """
    train = config.train
    parts = world_size * train.accumulate
    if train.batch_size % parts:
        raise UserError(
            f"train.batch_size={train.batch_size} cannot be divided among {world_size} processes × "
            f"train.accumulate={train.accumulate}; make it a multiple of {parts}."
        )
    kept = np.arange(len(dataset))
    if not config.data.keep_empty_images:
        kept = kept[dataset.object_counts() > 0]
    if len(kept) == 0:
        raise UserError(f"{dataset.annotation_path}: holds no picture with objects; set data.keep_empty_images=true.")
    groups = dataset.is_wide()[kept] if config.data.aspect_grouping else np.zeros(len(kept), dtype=bool)
    batches = GlobalBatches(kept, groups, train.batch_size, train.seed)
    transform = TrainTransform(config.input, config.data.augment)
    following = next_of_group(kept, groups, len(dataset))
    pictures = TrainingPictures(dataset, transform, config.input.pad_to_multiple, following)
    sampler = MicroBatchSampler(batches, start_iteration, train.accumulate, rank, world_size)
    return TrainingStream(_loader(pictures, sampler, config, device), _left_out(dataset, config, IN_TRAINING, warn))


def evaluation_loader(
    dataset: DetectionDataset,
    config: Config,
    batch_size: int = 1,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | None = None,
    warn: Callable[[str], None] | None = None,
) -> EvaluationLoader:
    """Every picture once over all processes, at test size.

    A picture in a padded batch gives other detections than alone, so only pictures whose input images have the same
    size share a batch. Batches are made before they are dealt to the processes: the numbers are the same for any
    number of processes.

    Raises:
        ImageError: while iterating, as in `training_loader`.
    """
    loader, length = _test_loader(dataset, config, batch_size, rank, world_size, device)
    return EvaluationLoader(loader, length, _left_out(dataset, config, IN_EVALUATION, warn))


def validation_loader(
    dataset: DetectionDataset,
    config: Config,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | None = None,
    warn: Callable[[str], None] | None = None,
) -> ValidationLoader:
    """Every picture once over all processes, one at a time, with its ground truth; the seed is its place in the set."""
    loader, length = _test_loader(dataset, config, 1, rank, world_size, device)
    return ValidationLoader(loader, length, _left_out(dataset, config, IN_EVALUATION, warn))


def _test_loader(
    dataset: DetectionDataset, config: Config, batch_size: int, rank: int, world_size: int, device: torch.device | None
) -> tuple["DataLoader[TrainingBatch | Refusal]", int]:
    mine = equal_size_batches(dataset, config.input, batch_size)[rank::world_size]
    return _loader(EvaluationPictures(dataset, config.input), mine, config, device), len(mine)


def _loader(
    pictures: TrainingPictures | EvaluationPictures,
    batches: MicroBatchSampler | list[list[int]],
    config: Config,
    device: torch.device | None,
) -> "DataLoader[TrainingBatch | Refusal]":
    workers = config.data.num_workers
    return DataLoader(
        pictures,
        sampler=batches,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=PREFETCHED_BATCHES if workers else None,
        worker_init_fn=_start_worker,
        pin_memory=torch.cuda.is_available() if device is None else device.type == "cuda",
        # Everything random is drawn from the slots' seeds; this only keeps the loader off the global generator.
        generator=torch.Generator().manual_seed(config.train.seed),
    )


def _start_worker(worker: int) -> None:
    """Ctrl-C and a scheduler's SIGTERM reach every process of a job, but the main one still needs its pictures until it
    has finished its step and saved. Workers end when it tells them to, or when it is gone. SIGTERM, by which Python
    ends those that a crashed main process left over, gives them some time."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, lambda _number, _frame: signal.alarm(SIGTERM_GRACE))
    cv2.setNumThreads(0)  # the workers are the parallelism


def _left_out(
    dataset: DetectionDataset, config: Config, consequence: str, warn: Callable[[str], None] | None
) -> LeftOut:
    skip = config.data.skip_unreadable_images
    return LeftOut(dataset.annotation_path or dataset.image_root, len(dataset), consequence, warn if skip else None)


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
