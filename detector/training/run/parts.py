"""What a run consists of while it lasts."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from detector import process_group
from detector.arithmetic import TrainingPrecision
from detector.categories import CategoryMap
from detector.config import Config
from detector.datasets.dataset import DetectionDataset
from detector.datasets.fingerprint import Fingerprint
from detector.evaluation.ground_truth import GroundTruth
from detector.model.faster_rcnn import FasterRCNN
from detector.training.class_weights import class_weights
from detector.training.ema import AveragedModel
from detector.training.loss_scale import LossScale
from detector.training.optimizer import momentum_buffers
from detector.training.report.logs import RunLog
from detector.training.report.meter import Meter
from detector.training.state.checkpoint import TrainingState
from detector.training.state.progress import Progress
from detector.training.state.random_state import random_states
from detector.training.state.saving import CheckpointWriter


@dataclass
class Run:
    """The parts of a run.

    `model` is trained, `joint` wraps it with its losses (and, with others, in DDP). `val_truth` is what `val_data` is
    scored against, in the main process, where scoring happens. `annotations` identifies the data by split.
    `loss_scale` is float16's. `owes_evaluation`: an evaluation that was due where it stands was interrupted.
    """

    config: Config
    output: Path
    device: torch.device
    precision: TrainingPrecision
    loss_scale: LossScale | None
    train_data: DetectionDataset
    val_data: DetectionDataset | None
    val_truth: GroundTruth | None
    annotations: dict[str, Fingerprint]
    model: FasterRCNN
    joint: nn.Module
    optimizer: torch.optim.SGD
    averaged: AveragedModel[FasterRCNN] | None
    progress: Progress
    owes_evaluation: bool
    meter: Meter
    checkpoints: CheckpointWriter
    log: RunLog

    @property
    def categories(self) -> CategoryMap:
        """What labels 1..K mean: the training data's categories."""
        return self.train_data.categories

    @property
    def class_weights(self) -> Tensor | None:
        """[K+1] of the labels in the head's loss, or None; raises ConfigError where the setting is none."""
        return class_weights(self.config.train.class_weights, self.categories)

    @property
    def result(self) -> FasterRCNN:
        """The model that is evaluated and saved: the averaged one, where there is one."""
        return self.averaged.model if self.averaged else self.model

    def save(self) -> None:
        """Write a checkpoint, unless this iteration has one. All processes must call this.

        Raises:
            UserError: the weights are not finite, or saving has failed too often.
        """
        if self.progress.iteration != self.checkpoints.saved_iteration:
            self.log.flush()
            self.checkpoints.save(self.state())

    def update_average(self) -> None:
        """Let the averaged weights, where there are any, follow a step."""
        if self.averaged:
            self.averaged.update(self.model)
            self.progress.averaged_updates = self.averaged.updates

    def state(self) -> TrainingState:
        """Everything that a checkpoint holds. Tensors are the live ones. All processes must call this."""
        return TrainingState(
            config=self.config,
            categories=self.categories,
            world_size=process_group.world_size(),
            progress=self.progress,
            model=self.model.state_dict(),
            averaged=self.averaged.model.state_dict() if self.averaged else None,
            momentum=momentum_buffers(self.optimizer, self.model),
            random=random_states(),
            unreported=self.meter.state(),
            loss_scale=self.loss_scale,
            annotations=self.annotations,
        )
