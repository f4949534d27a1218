"""Which pictures a step trains on, and the processes that prepare them.

The order is a function of the seed, the data set and the batch size alone: not of the number of processes, of workers,
or of interruptions. Batch i of a run is the same pictures, cropped and flipped the same way, however it is reached.
"""

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from detector.config import Config, InputConfig
from detector.datasets.batch import PreparedImage, collate
from detector.datasets.dataset import DetectionDataset
from detector.datasets.images import ImageError, read_image
from detector.datasets.order import GlobalBatches, slot_seed
from detector.datasets.transforms import TrainTransform, prepare_for_test, prepare_target
from detector.errors import UserError
from detector.structures import ImageBatch, Target

PREFETCHED_BATCHES = 4  # a worker


@dataclass
class TrainingBatch:
    """A micro-batch. iteration: the step it belongs to. seeds: one number per image for the model's samplers."""

    iteration: int
    images: ImageBatch
    targets: list[Target]
    seeds: list[int]

    def pin_memory(self) -> "TrainingBatch":
        pinned = [target.pin_memory() for target in self.targets]
        return TrainingBatch(self.iteration, self.images.pin_memory(), pinned, self.seeds)


@dataclass(frozen=True)
class Slot:
    """One place of one step: which picture stands there, and the seed of all that is random about it."""

    iteration: int
    index: int
    seed: int


class _MicroBatchSampler(Sampler[list[Slot]]):
    """This process's micro-batches from a step on, without end."""

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
            slots = [
                Slot(iteration, int(index), slot_seed(self.batches.seed, iteration, place))
                for place, index in enumerate(indices)
            ]
            mine = slots[self.rank * share : (self.rank + 1) * share]
            for first in range(0, share, micro):
                yield mine[first : first + micro]


class _TrainingPictures(Dataset["TrainingBatch | _Refusal"]):
    """Whole micro-batches: a worker prepares the pictures of one after another."""

    def __init__(self, dataset: DetectionDataset, transform: TrainTransform, pad_to_multiple: int) -> None:
        self.dataset = dataset
        self.transform = transform
        self.pad_to_multiple = pad_to_multiple

    def __getitem__(self, slots: list[Slot]) -> "TrainingBatch | _Refusal":
        prepared = []
        for slot in slots:
            sample = self.dataset[slot.index]
            try:
                image = read_image(sample.path)
            except ImageError as error:
                return _Refusal(f"image {sample.image_id}: {error}")
            pixels, target = self.transform(image, sample, np.random.default_rng(slot.seed))
            prepared.append(PreparedImage(pixels, target, (image.shape[0], image.shape[1]), sample.image_id))
        images, targets = collate(prepared, self.pad_to_multiple)
        return TrainingBatch(slots[0].iteration, images, targets, [slot.seed for slot in slots])


@dataclass(frozen=True)
class _Refusal:
    """A picture that cannot be used, on its way to the main process, where it becomes one sentence."""

    message: str


def training_loader(
    dataset: DetectionDataset, config: Config, start_iteration: int = 0, rank: int = 0, world_size: int = 1
) -> Iterator[TrainingBatch]:
    """This process's micro-batches from step `start_iteration` on, without end; `train.accumulate` of them are a step.

    Raises:
        UserError: the batch cannot be divided, there is nothing to train on, or a picture cannot be read.
    """
    train = config.train
    if train.batch_size % (world_size * train.accumulate):
        raise UserError(
            f"train.batch_size={train.batch_size} cannot be divided among {world_size} processes × "
            f"train.accumulate={train.accumulate}; make it a multiple of {world_size * train.accumulate}."
        )
    kept = np.arange(len(dataset))
    if not config.data.keep_empty_images:
        kept = kept[dataset.object_counts() > 0]
    if len(kept) == 0:
        raise UserError(f"{dataset.annotation_path}: holds no picture to train on.")
    groups = dataset.is_wide()[kept] if config.data.aspect_grouping else np.zeros(len(kept), dtype=bool)
    batches = GlobalBatches(kept, groups, train.batch_size, train.seed)
    pictures = _TrainingPictures(
        dataset, TrainTransform(config.input, config.data.augment), config.input.pad_to_multiple
    )
    workers = config.data.num_workers
    loader = DataLoader(
        pictures,
        sampler=_MicroBatchSampler(batches, start_iteration, train.accumulate, rank, world_size),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=PREFETCHED_BATCHES if workers else None,
        worker_init_fn=_leave_signals_to_the_main_process,
        pin_memory=torch.cuda.is_available(),
        # Everything random is drawn from the slots' seeds; this only keeps the loader off the global generator.
        generator=torch.Generator().manual_seed(train.seed),
    )
    return _checked(loader)


def _leave_signals_to_the_main_process(worker: int) -> None:
    """Ctrl-C and a scheduler's SIGTERM reach every process of a job, but the main one still needs its pictures until it
    has finished its step and saved. Workers end when it tells them to, or when it is gone."""
    del worker
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _checked(loader: "DataLoader[TrainingBatch | _Refusal]") -> Iterator[TrainingBatch]:
    for batch in loader:
        if isinstance(batch, _Refusal):
            raise UserError(batch.message)
        yield batch


class _TestPictures(Dataset["tuple[PreparedImage, int] | _Refusal"]):
    """Pictures prepared for testing, with the ground truth in their frame."""

    def __init__(self, dataset: DetectionDataset, indices: list[int], config: InputConfig) -> None:
        self.dataset = dataset
        self.indices = indices
        self.config = config

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> "tuple[PreparedImage, int] | _Refusal":
        index = self.indices[place]
        sample = self.dataset[index]
        try:
            image = read_image(sample.path)
        except ImageError as error:
            return _Refusal(f"image {sample.image_id}: {error}")
        size = (image.shape[0], image.shape[1])
        pixels = prepare_for_test(image, self.config)
        target = prepare_target(sample, (pixels.shape[0], pixels.shape[1]), size)
        return PreparedImage(pixels, target, size, sample.image_id), index


class _TestLoader:
    """Batches of test pictures with their targets; `len` is how many batches there are."""

    def __init__(self, loader: "DataLoader[tuple[PreparedImage, int] | _Refusal]", pad_to_multiple: int) -> None:
        self.loader = loader
        self.pad_to_multiple = pad_to_multiple

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[TrainingBatch]:
        for items in self.loader:
            prepared = []
            for item in items:
                if isinstance(item, _Refusal):
                    raise UserError(item.message)
                prepared.append(item)
            images, targets = collate([image for image, _ in prepared], self.pad_to_multiple)
            yield TrainingBatch(0, images, targets, [index for _, index in prepared])


class _ImagesOnly:
    def __init__(self, loader: _TestLoader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[ImageBatch]:
        return (batch.images for batch in self.loader)


def evaluation_loader(
    dataset: DetectionDataset, config: Config, batch_size: int = 1, rank: int = 0, world_size: int = 1
) -> _ImagesOnly:
    """Every picture once over all processes, each at test size.

    With `batch_size` 1 a picture is never padded, so its detections do not depend on its neighbours.
    """
    return _ImagesOnly(_test_loader(dataset, config, batch_size, rank, world_size))


def validation_loader(dataset: DetectionDataset, config: Config, rank: int = 0, world_size: int = 1) -> _TestLoader:
    """Every picture once over all processes, one at a time, with its ground truth; the seed is its place in the set."""
    return _test_loader(dataset, config, 1, rank, world_size)


def _test_loader(dataset: DetectionDataset, config: Config, batch_size: int, rank: int, world_size: int) -> _TestLoader:
    mine = list(range(rank, len(dataset), world_size))
    workers = config.data.num_workers
    loader = DataLoader(
        _TestPictures(dataset, mine, config.input),
        batch_size=batch_size,
        num_workers=workers,
        prefetch_factor=PREFETCHED_BATCHES if workers else None,
        worker_init_fn=_leave_signals_to_the_main_process,
        collate_fn=list,
        generator=torch.Generator().manual_seed(config.train.seed),
    )
    return _TestLoader(loader, config.input.pad_to_multiple)
