"""The training loop (Faster R-CNN §3.2: approximate joint training with SGD)."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from detector import process_group
from detector.config import Config, config_to_dict, flatten
from detector.datasets.loading.batch import TrainingBatch
from detector.datasets.loading.loader import TrainingStream, training_loader
from detector.training.loss_scale import is_overflow, unscale_gradients
from detector.training.losses import Losses
from detector.training.nonfinite import RunningStatistics, leave_out, leave_out_overflow
from detector.training.optimizer import set_learning_rate
from detector.training.process.signals import StoppedError, StopSignals, signal_name
from detector.training.process.watchdog import Watchdog
from detector.training.report.describe import describe_run, report_steps
from detector.training.report.first_batch import write_first_batch
from detector.training.report.logs import RunLog
from detector.training.report.meter import GRADIENT_NORM
from detector.training.run import plan
from detector.training.run.ahead import Ahead, StepBatches
from detector.training.run.assess import evaluate_run
from detector.training.run.feed import explain_dead_worker, no_workers_left, steps
from detector.training.run.finish import finish_run
from detector.training.run.output import FIRST_BATCH, SAMPLES, claim, is_finished, locked
from detector.training.run.parts import Run
from detector.training.run.set_up import prepare_output, set_up
from detector.training.run.validation import Evaluation
from detector.training.schedule import learning_rate
from detector.training.step import (
    clip_and_check,
    explain_out_of_memory,
    forward_backward,
    gradient_norm,
    mean_losses,
)

DATA_LIMIT, STEP_LIMIT = 60.0, 300.0  # seconds of a phase after which the watchdog says what the run waits for


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended.

    iteration: where the run stands; 0 also where it was stopped before that was known. stopped_by: the number of the
    signal that stopped it; 0: the run is finished.
    """

    iteration: int
    stopped_by: int


def train(config: Config, output: Path, resume: bool = False, overwrite: bool = False, device: str = "auto") -> Outcome:
    """Train a detector, score it, and write everything into one folder.

    A run is a function of its config: what a step trains on, how it is augmented and what is sampled are drawn from the
    seed, the iteration and the picture. So an interrupted run that is resumed ends, on a CPU, with the same weights to
    the bit. (With three processes or more, to rounding: the first step after a start adds their gradients in another
    order.) Under torchrun every process calls this.

    Args:
        config: of the run.
        output: folder for all files; `detector.training.run.output` has their names.
        resume: go on from the newest whole checkpoint in `output`, or from the beginning where a run has left neither
            one nor a model.
        overwrite: delete an earlier run in `output` first.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        UserError: the run cannot be started, or cannot go on; one sentence with the remedy.
    """
    with StopSignals() as stop:
        return train_until(stop, config, output, resume, overwrite, device)


def train_until(
    stop: StopSignals,
    config: Config,
    output: Path,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> Outcome:
    """`train` with stop signals that the caller holds, and through which it may ask the run to stop.

    Args:
        stop: active signals.
        quiet: show nothing but warnings.
    """
    with ExitStack() as held:
        try:
            chosen = process_group.start(device)
            # The main process, the only one that writes, holds the folder for all.
            process_group.on_main(lambda: held.enter_context(locked(output)))
            process_group.on_main(lambda: claim(output, resume, overwrite))
            with (
                no_workers_left(),
                RunLog(output, process_group.rank(), quiet) as log,
                Watchdog(log.warning) as watchdog,
                process_group.explain_lost_process(),
                explain_out_of_memory(watchdog),
                explain_dead_worker(),
            ):
                try:
                    run = set_up(config, output, chosen, resume, log, partial(_at_once, stop))
                except StoppedError:
                    log.info(f"stopped by {signal_name(stop.received)} before the first step.")
                    return Outcome(0, stop.received)
                describe_run(run)
                if is_finished(output) and plan.is_finished(run.progress, run.config.train):
                    log.info(f"{output} is finished; {plan.what_goes_further(run.progress, run.config.train)}.")
                    return Outcome(run.progress.iteration, 0)
                process_group.on_main(lambda: prepare_output(run))
                if plan.is_finished(run.progress, run.config.train):
                    log.info(f"iteration {run.progress.iteration} is there already: no step is left, only the end.")
                settings = flatten(config_to_dict(run.config))
                log.begin_numbers(run.progress, config.train.tensorboard, config.train.trackers, settings)
                return run_loop(run, stop, watchdog)
        finally:
            process_group.stop()


def run_loop(run: Run, stop: StopSignals, watchdog: Watchdog) -> Outcome:
    """Take a run from where it stands to its end, or to a signal. All that a run does is here, in this order.

    `progress.iteration` counts the steps that are done, so the step that is under way is iteration
    `progress.iteration` + 1.

    Raises:
        UserError: too many steps in a row were not finite, or checkpoints cannot be written.
    """
    settings, progress = run.config.train, run.progress
    statistics = RunningStatistics(run.model)
    evaluation: Evaluation | None = None
    stopped_by = 0
    with closing(_micro_batches(run)) as stream:
        batches = steps(stream, settings.accumulate, progress.iteration)
        ahead = Ahead(partial(take_batch, batches, stop, watchdog), run.device)
        try:
            if run.owes_evaluation or plan.is_evaluation_due(progress, settings):
                with stop.at_once():
                    evaluation = evaluate_run(run, watchdog)
            while not stopped_by and not plan.is_finished(progress, settings):
                began = time.perf_counter()
                rate = learning_rate(progress.iteration, settings)
                set_learning_rate(run.optimizer, rate)
                with watchdog.phase(f"the step of iteration {progress.iteration + 1}", STEP_LIMIT):
                    taken = ahead.take(progress.iteration + 1)
                    if progress.iteration == 0 and settings.sample_pictures and process_group.is_main():
                        write_first_batch(run.output / SAMPLES / FIRST_BATCH, taken.given, run.train_data, run.log)
                    losses = step(run, statistics, taken, ahead)
                seconds = time.perf_counter() - began
                progress.count(settings.batch_size, seconds)
                run.meter.add(losses, settings.batch_size, seconds, taken.waited)
                if plan.is_log_due(progress, settings):
                    report_steps(run, run.meter.report(progress.iteration, rate))
                stopped_by = process_group.maximum_over_processes([stop.received])[0]
                if plan.is_save_due(progress, settings, run.checkpoints.saved_iteration):
                    save(run, watchdog)
                if not stopped_by and plan.is_evaluation_due(progress, settings):
                    with stop.at_once():
                        evaluation = evaluate_run(run, watchdog)
        except StoppedError:
            stopped_by = stop.received
        if stopped_by:
            save(run, watchdog)
    if stopped_by:
        at = run.checkpoints.saved_iteration
        run.log.info(f"stopped by {signal_name(stopped_by)}; --resume goes on from iteration {at}.")
    else:
        finish_run(run, evaluation)
    return Outcome(progress.iteration, stopped_by)


def take_batch(
    batches: Iterator[list[TrainingBatch]], stop: StopSignals, watchdog: Watchdog, iteration: int
) -> tuple[list[TrainingBatch], float]:
    """The micro-batches of the next step, and the seconds that it took to get them.

    Raises:
        StoppedError: a signal came meanwhile, and this process trains alone.
    """
    began = time.perf_counter()
    with watchdog.phase(f"waiting for the pictures of iteration {iteration}", DATA_LIMIT), _at_once(stop):
        micro_batches = next(batches)
    return micro_batches, time.perf_counter() - began


def step(run: Run, statistics: RunningStatistics, batches: StepBatches, ahead: Ahead) -> Losses:
    """One optimizer step. It is left out where a loss or a gradient is not finite, or float16's gradients overflow.

    Args:
        run: its model, averaged model, loss scale and counts of skipped steps change.
        statistics: of the model's batch norms; put back as they were where the step is left out.
        batches: the micro-batches of the step.
        ahead: asked for the next step's batches, so that they travel while a GPU computes this step.

    Returns:
        The losses, means over the micro-batches, and the norm of the gradient before it was clipped: scalars on the
        device. Empty for a step that was left out.

    Raises:
        TrainingDivergedError: too many steps in a row were left out, or gradients overflow at any loss scale.
    """
    settings = run.config.train
    statistics.remember()
    run.optimizer.zero_grad(set_to_none=True)
    scale = run.loss_scale
    losses = forward_backward(run.joint, batches.moved, run.device, run.precision, scale.value if scale else 1.0)
    if run.progress.iteration + 1 < settings.iterations:
        ahead.fetch(run.progress.iteration + 2)
    if scale is not None:
        unscale_gradients(run.model, scale)
    mean = mean_losses(losses)
    norm = gradient_norm(run.model)
    if clip_and_check(mean, run.model, settings.clip_gradient_norm, norm):
        run.optimizer.step()
        run.update_average()
        run.progress.skipped_in_a_row = 0
        if scale is not None:
            scale.count_step()
        return mean | {GRADIENT_NORM: norm}
    statistics.restore()
    if scale is not None and is_overflow(losses):
        leave_out_overflow(run.progress, scale, batches.given, losses, run.model, run.output, run.log)
    else:
        limit = settings.max_skipped_steps
        leave_out(run.progress, batches.given, losses, run.model, limit, run.output, run.log, run.precision)
    return {}


def save(run: Run, watchdog: Watchdog) -> None:
    """Write a checkpoint of where the run stands, unless there is one. All processes must call this."""
    with watchdog.phase(f"saving iteration {run.progress.iteration}", STEP_LIMIT):
        run.save()


def _micro_batches(run: Run) -> TrainingStream:
    """This process's share of the pictures, from where the run stands."""
    rank, processes = process_group.rank(), process_group.world_size()
    return training_loader(
        run.train_data, run.config, run.progress.iteration, rank, processes, run.device, run.log.warning
    )


def _at_once(stop: StopSignals) -> AbstractContextManager[None]:
    """A context in which a signal interrupts a process that trains alone.

    Several processes must stop after the same step, so theirs do not react before they compare their signals, once a
    step.
    """
    return stop.at_once() if process_group.world_size() == 1 else nullcontext()
