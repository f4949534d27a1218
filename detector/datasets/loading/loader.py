"""Loaders of batches: for training in the order of `order`, for evaluation each picture once; `workers` prepares them.

What a batch holds depends on the seed, the data set and the batch size alone: not on the number of processes, of
workers, or of interruptions. Batch i of a run is the same pictures, cropped and flipped the same way, however reached.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader

from detector.config import Config
from detector.datasets.dataset import DetectionDataset
from detector.datasets.loading.batch import TrainingBatch
from detector.datasets.loading.left_out import IN_EVALUATION, IN_TRAINING, LeftOut, next_of_group
from detector.datasets.loading.order import GlobalBatches, MicroBatchSampler, equal_size_batches
from detector.datasets.loading.repeats import repeat_factors
from detector.datasets.loading.workers import EvaluationPictures, Refusal, TrainingPictures, start_worker
from detector.datasets.pictures.read import ImageError
from detector.datasets.pictures.transforms import TrainTransform
from detector.errors import UserError
from detector.structures import ImageBatch

PREFETCHED_BATCHES = 2  # a worker; they lie in shared memory, of which containers often have little


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
    threshold = config.data.repeat_threshold
    repeats = None if threshold is None else repeat_factors(dataset, threshold)[kept]
    batches = GlobalBatches(kept, groups, train.batch_size, train.seed, repeats)
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
        worker_init_fn=start_worker,
        pin_memory=torch.cuda.is_available() if device is None else device.type == "cuda",
        # Everything random is drawn from the slots' seeds; this only keeps the loader off the global generator.
        generator=torch.Generator().manual_seed(config.train.seed),
    )


def _left_out(
    dataset: DetectionDataset, config: Config, consequence: str, warn: Callable[[str], None] | None
) -> LeftOut:
    skip = config.data.skip_unreadable_images
    return LeftOut(dataset.annotation_path or dataset.image_root, len(dataset), consequence, warn if skip else None)
