"""A run put together from its config and, where it goes on, from a checkpoint."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detector import process_group
from detector.config import Config, save_config
from detector.datasets.checks.examine import check_before_training
from detector.datasets.dataset import DetectionDataset
from detector.datasets.fingerprint import Fingerprint, fingerprint
from detector.datasets.layouts.apply import describe_splits
from detector.datasets.loading.repeats import describe_repeats, repeat_factors
from detector.datasets.pictures.depth import with_bit_depth
from detector.evaluation.ground_truth import ground_truth_of
from detector.model.build import build_model
from detector.model.faster_rcnn import FasterRCNN
from detector.training.class_weights import class_weights
from detector.training.ema import AveragedModel
from detector.training.freezing import describe_freezing, freeze, keep_statistics
from detector.training.joint import build_joint
from detector.training.loss_scale import LossScale
from detector.training.optimizer import build_optimizer, load_momentum_buffers
from detector.training.report.logs import RunLog
from detector.training.report.meter import Meter
from detector.training.run.output import CHECKPOINTS, CONFIG_FILE, check_no_models, check_room
from detector.training.run.parts import Run
from detector.training.run.plan import is_evaluation_due
from detector.training.run.resume import begun_from, check_resumable
from detector.training.run.start import check_batch, check_start, open_data, pictures_of_epoch, with_classes
from detector.training.run.void import void_settings
from detector.training.schedule import in_iterations
from detector.training.state.checkpoint import TrainingState, load_checkpoint
from detector.training.state.newest import load_newest
from detector.training.state.progress import Progress
from detector.training.state.random_state import restore_random_states, seed_everything
from detector.training.state.saving import CheckpointWriter
from detector.training.step import choose_precision
from detector.weights.compare import load_state
from detector.weights.initialise import initialise

CHECKPOINT_COPIES = 2  # weights and momentum; the averaged weights are a third


def set_up(
    config: Config,
    output: Path,
    device: torch.device,
    resume: bool,
    log: RunLog,
    at_once: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Run:
    """Open the data, build the model, and bring both to where the run stands.

    Args:
        output: a folder that was claimed for this run.
        device: of this process.
        resume: go on from the newest whole checkpoint, if there is one.
        at_once: entered around what may take minutes (rendering, reading annotations, fetching weights), so that a
            signal can interrupt it.

    Raises:
        UserError: the run cannot be started, or not be continued, as asked.
    """
    check_batch(config.train, process_group.world_size())
    with at_once():
        train_data, val_data = open_data(config.data)
    log.info(describe_splits(config.data, {"train": train_data} | ({"val": val_data} if val_data else {})))
    if config.data.repeat_threshold is not None:
        log.info(describe_repeats(train_data, repeat_factors(train_data, config.data.repeat_threshold)))
    train_settings, lines = in_iterations(config.train, pictures_of_epoch(train_data, config.data))
    for line in lines:
        log.info(line)
    config = replace(config, train=train_settings)
    config = with_bit_depth(with_classes(config, train_data), train_data, log.warning)
    process_group.on_main(lambda: warn_of_faults(train_data, val_data, log))
    annotations = {"train": fingerprint(train_data)} | ({"val": fingerprint(val_data)} if val_data else {})
    state = find_state(output, log) if resume else None
    if state is not None:
        check_resumable(state, config, train_data.categories, annotations, process_group.world_size(), log.warning)
        config = begun_from(config, state.config)
    else:
        check_start(config.model)
    if val_data is None:
        log.info(
            "there is no val split (data.val_annotations, or data.hold_out): the model is not scored, and none is kept "
            "as the best."
        )
    for line in void_settings(config, has_val=val_data is not None):
        log.info(f"without effect: {line}")
    seed_everything(config.train.seed)
    model = build_model(config)
    if state is None:
        with at_once():
            initialise(model, config, train_data.categories)
    return assemble(config, output, device, train_data, val_data, annotations, model, state, log)


def warn_of_faults(train_data: DetectionDataset, val_data: DetectionDataset | None, log: RunLog) -> None:
    """Warn of faults in the data that do not prevent training."""
    for line in check_before_training(train_data, val_data):
        log.warning(line)


def assemble(
    config: Config,
    output: Path,
    device: torch.device,
    train_data: DetectionDataset,
    val_data: DetectionDataset | None,
    annotations: dict[str, Fingerprint],
    model: FasterRCNN,
    state: TrainingState | None,
    log: RunLog,
) -> Run:
    """Move a model to its device, wrap it for training, and give everything a checkpoint's state, if there is one."""
    categories = train_data.categories
    if state is not None:
        load_checkpoint_weights(model, state.model)
    if device.type == "cuda":
        model = model.to(memory_format=torch.channels_last)
        if process_group.world_size() > 1:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    model = model.to(device).train()
    frozen = freeze(model, config.train.freeze)
    if frozen:
        log.info(describe_freezing(model, frozen))
    joint = build_joint(model, config.model, class_weights=class_weights(config.train.class_weights, categories))
    keep_statistics(model, joint, [name for names in frozen.values() for name in names])
    optimizer = build_optimizer(model, config.train)
    averaged = AveragedModel(model, config.train.ema_decay) if config.train.ema_decay else None
    precision = choose_precision(config.train, device)
    loss_scale = LossScale() if precision == "float16" else None
    progress = Progress()
    meter = Meter(device, config.train.iterations)
    if state is not None:
        progress = state.progress
        meter.restore(state.unreported)
        load_momentum_buffers(optimizer, model, state.momentum)
        loss_scale = loss_scale and (state.loss_scale or loss_scale)
        if averaged and state.averaged is not None:
            load_checkpoint_weights(averaged.model, state.averaged)
            averaged.updates = progress.averaged_updates
        if process_group.is_main():
            restore_random_states(state.random)
    return Run(
        config=config,
        output=output,
        device=device,
        precision=precision,
        loss_scale=loss_scale,
        train_data=train_data,
        val_data=val_data,
        val_truth=ground_truth_of(val_data) if val_data and process_group.is_main() else None,
        annotations=annotations,
        model=model,
        joint=wrap(joint, device),
        optimizer=optimizer,
        averaged=averaged,
        progress=progress,
        owes_evaluation=state is not None and is_evaluation_due(progress, state.config.train),
        meter=meter,
        checkpoints=CheckpointWriter(output / CHECKPOINTS, config.train.keep_checkpoints, progress.iteration, log),
        log=log,
    )


def find_state(output: Path, log: RunLog) -> TrainingState | None:
    """The newest whole checkpoint's state, the same in every process; None where there is none.

    Raises:
        UserError: there is none, and a run has left models, which one from the beginning would replace.
    """

    def find() -> Path | None:
        newest = load_newest(output / CHECKPOINTS, log.warning)
        return newest[0] if newest else None

    path = process_group.on_main(find)
    if path is None:
        process_group.on_main(lambda: check_no_models(output))
        log.warning(f"{output} has no checkpoint to resume from: the run starts at the beginning.")
        return None
    log.info(f"resuming from {path}")
    return load_checkpoint(path)


def load_checkpoint_weights(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Load a checkpoint's weights, which must fit the model in names and shapes. Raises UserError where they do not."""
    remedy = "resume with the model settings it was made with, or start a new run from its weights with --weights."
    load_state(model, weights, "the checkpoint is of another network", remedy)


def wrap(joint: nn.Module, device: torch.device) -> nn.Module:
    """Wrap the module in DistributedDataParallel where there are several processes, which averages their gradients."""
    if process_group.world_size() == 1:
        return joint
    live = any(isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)) for module in joint.modules())
    return DistributedDataParallel(
        joint,
        device_ids=[device.index] if device.type == "cuda" else None,
        broadcast_buffers=live,  # the main process's statistics are the run's
        gradient_as_bucket_view=True,
    )


def prepare_output(run: Run) -> None:
    """Write the config, and check that there is room for what will follow."""
    weights = sum(t.numel() * t.element_size() for t in run.model.state_dict().values())
    copies = CHECKPOINT_COPIES + (run.averaged is not None)
    check_room(run.output, weights * copies, run.config.train.keep_checkpoints, run.log.warning)
    save_config(run.config, run.output / CONFIG_FILE)
