"""What a run needs before its first step: data, classes, and weights to start from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from detector import process_group
from detector.categories import list_categories
from detector.config import Config, DataConfig, ModelConfig, TrainConfig
from detector.datasets.dataset import DetectionDataset
from detector.datasets.loading.repeats import repeat_factors
from detector.datasets.pictures.named_transforms import NamedTransforms
from detector.datasets.shapes import ensure_shapes
from detector.datasets.splits import open_train_and_val
from detector.errors import UserError
from detector.model.build import build_model
from detector.training.freezing import freeze


def check_batch(train: TrainConfig, world_size: int) -> None:
    """Raise UserError unless the batch divides evenly among processes and micro-batches."""
    parts = world_size * train.accumulate
    if train.batch_size % parts:
        raise UserError(
            f"train.batch_size={train.batch_size} cannot be divided among {world_size} processes × "
            f"train.accumulate={train.accumulate}; choose a multiple of {parts}."
        )


def check_start(model: ModelConfig) -> None:
    """Raise UserError for layers that would stay random: frozen ones, with no weights to fill them."""
    backbone = model.backbone
    if model.weights or backbone.weights:
        return
    if "frozen_batch" in (backbone.norm, backbone.conv5_norm):
        raise UserError(
            "model.backbone.norm=frozen_batch needs trained weights (--weights, or model.backbone.weights); from "
            "scratch use norm=batch or norm=group."
        )
    if backbone.freeze_stages:
        raise UserError(
            f"model.backbone.freeze_stages={backbone.freeze_stages} would freeze random weights; set it to 0, or give "
            "trained ones (--weights, or model.backbone.weights)."
        )


def check_names(config: Config) -> None:
    """Raise UserError for names, of parts to freeze and of transforms, that nothing has; no weights are read."""
    if config.data.augment.transforms:
        NamedTransforms(config.data.augment.transforms)
    if config.train.freeze:
        with torch.device("meta"):
            model = build_model(replace(config, model=replace(config.model, num_classes=1)))
        freeze(model, config.train.freeze)


def with_classes(config: Config, dataset: DetectionDataset) -> Config:
    """The config with the number of classes that the dataset has. Raises UserError where it says another."""
    count = len(dataset.categories)
    if config.model.num_classes not in (None, count):
        raise UserError(
            f"model.num_classes={config.model.num_classes}, but {dataset.annotation_path} has {count} categories "
            f"({list_categories(dataset.categories.categories)}); set it to {count} or to null."
        )
    return replace(config, model=replace(config.model, num_classes=count))


def open_data(data: DataConfig) -> tuple[DetectionDataset, DetectionDataset | None]:
    """The training data, and the val split where the settings name one. All processes must call this.

    The embedded set is rendered first where it is asked for and not there.

    Raises:
        UserError: there is no training data, half of a val split, a file of them cannot be used, or the splits have
            different classes.
    """
    if data.generate == "shapes" and data.train_annotations is not None:
        folder = Path(data.train_annotations).parent
        process_group.on_main(lambda: ensure_shapes(folder))
    return open_train_and_val(data)


def pictures_of_epoch(dataset: DetectionDataset, data: DataConfig) -> int:
    """How many pictures an epoch shows: those without objects only where they are kept, some several times."""
    kept = np.ones(len(dataset), bool) if data.keep_empty_images else dataset.object_counts() > 0
    if data.repeat_threshold is None:
        return max(1, int(kept.sum()))
    return max(1, round(float(repeat_factors(dataset, data.repeat_threshold)[kept].sum())))
