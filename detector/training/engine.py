"""The training loop (Faster R-CNN §3.2: approximate joint training with SGD)."""

import time
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from detector import process_group
from detector.config import Config
from detector.datasets.loading.loader import training_loader
from detector.training.nonfinite import RunningStatistics, leave_out
from detector.training.optimizer import set_learning_rate
from detector.training.process.signals import StoppedError, StopSignals, signal_name
from detector.training.process.watchdog import Watchdog
from detector.training.report.logs import RunLog
from detector.training.report.progress import describe_run, report_steps
from detector.training.report.validation import Evaluation
from detector.training.run import plan
from detector.training.run.feed import explain_dead_worker, no_workers_left, steps
from detector.training.run.finish import evaluate_run, finish_run
from detector.training.run.output import claim, is_finished, locked
from detector.training.run.run import Run, set_up
from detector.training.schedule import learning_rate
from detector.training.step import clip_and_check, explain_out_of_memory, forward_backward, mean_losses

DATA_LIMIT, STEP_LIMIT = 60.0, 300.0  # seconds after which the watchdog says what the run is waiting for


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
        resume: go on from the newest whole checkpoint in `output`, or from the beginning where there is none.
        overwrite: delete an earlier run in `output` first.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        UserError: the run cannot be started, or cannot go on; one sentence with the remedy.
    """
    with StopSignals() as stop, ExitStack() as held:
        try:
            chosen = process_group.start(device)
            # The main process, the only one that writes, holds the folder for all.
            process_group.on_main(lambda: held.enter_context(locked(output)))
            process_group.on_main(lambda: claim(output, resume, overwrite))
            with (
                no_workers_left(),
                RunLog(output, process_group.rank()) as log,
                Watchdog(log.warning) as watchdog,
                explain_out_of_memory(watchdog),
                explain_dead_worker(),
            ):
                try:
                    run = set_up(config, output, chosen, resume, log, partial(_at_once, stop))
                except StoppedError:
                    log.info(f"stopped by {signal_name(stop.received)} before the first step.")
                    return Outcome(0, stop.received)
                describe_run(run)
                if is_finished(output) and plan.is_finished(run.progress, config.train):
                    log.info(f"{output} is finished; a larger train.iterations would take it further.")
                    return Outcome(run.progress.iteration, 0)
                log.begin_numbers(run.progress, config.train.tensorboard)
                return run_loop(run, stop, watchdog)
        finally:
            process_group.stop()


def run_loop(run: Run, stop: StopSignals, watchdog: Watchdog) -> Outcome:
    """From where the run stands to its end, or to a signal. All that a run does, it does here, in this order."""
    settings, progress = run.config.train, run.progress
    rank, processes = process_group.rank(), process_group.world_size()
    statistics = RunningStatistics(run.model)
    evaluation: Evaluation | None = None
    stopped_by = 0
    loader = training_loader(
        run.train_data, run.config, progress.iteration, rank, processes, run.device, run.log.warning
    )
    batches = steps(loader, settings.accumulate, progress.iteration)
    with closing(loader):
        try:
            while True:
                if plan.is_save_due(progress, settings, run.checkpoints.saved_iteration):
                    watchdog.phase(f"saving iteration {progress.iteration}", STEP_LIMIT)
                    run.save()
                if stopped_by:
                    break
                if plan.is_evaluation_due(progress, settings):
                    with stop.at_once():
                        evaluation = evaluate_run(run, watchdog)
                if plan.is_finished(progress, settings):
                    break

                began = time.perf_counter()
                watchdog.phase(f"waiting for the pictures of iteration {progress.iteration + 1}", DATA_LIMIT)
                with _at_once(stop):
                    micro_batches = next(batches)
                waited = time.perf_counter() - began

                watchdog.phase(f"the step of iteration {progress.iteration + 1}", STEP_LIMIT)
                rate = learning_rate(progress.iteration, settings)
                set_learning_rate(run.optimizer, rate)
                statistics.remember()
                run.optimizer.zero_grad(set_to_none=True)
                found = forward_backward(run.joint, micro_batches, run.device, run.precision)
                losses = mean_losses(found)
                if clip_and_check(losses, run.model, settings.clip_gradient_norm):
                    run.optimizer.step()
                    run.update_average()
                    progress.skipped_in_a_row = 0
                else:
                    statistics.restore()
                    leave_out(
                        progress, micro_batches, found, run.model, settings.max_skipped_steps, run.output, run.log
                    )
                    losses = {}

                progress.iteration += 1
                progress.images += settings.batch_size
                seconds = time.perf_counter() - began
                progress.seconds += seconds
                run.meter.add(losses, settings.batch_size, seconds, waited)
                if plan.is_log_due(progress, settings):
                    report_steps(run, run.meter.report(progress.iteration, rate))
                stopped_by = process_group.maximum_over_processes([stop.received])[0]
        except StoppedError:
            stopped_by = stop.received
        if stopped_by:
            watchdog.phase(f"saving iteration {progress.iteration}", STEP_LIMIT)
            run.save()
            at = run.checkpoints.saved_iteration
            run.log.info(f"stopped by {signal_name(stopped_by)}; --resume goes on from iteration {at}.")
    if not stopped_by:
        finish_run(run, evaluation)
    return Outcome(progress.iteration, stopped_by)


def _at_once(stop: StopSignals) -> AbstractContextManager[None]:
    """Where a process alone stops at once. Several must agree where they stop, so each goes on to where they meet."""
    return stop.at_once() if process_group.world_size() == 1 else nullcontext()
