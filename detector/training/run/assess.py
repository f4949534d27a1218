"""Scoring a run's model while it trains, and keeping the best."""

import sys
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from detector import process_group
from detector.arithmetic import computing_type, detection_precision
from detector.datasets.loading.loader import evaluation_loader, validation_loader
from detector.errors import UserError
from detector.evaluation.incomplete import UNREADABLE
from detector.fast.fuse import fuse
from detector.training.joint import build_joint
from detector.training.process.watchdog import Watchdog
from detector.training.report.samples import write_samples
from detector.training.run.model_files import save_model
from detector.training.run.output import BEST_MODEL, EVALUATION, SAMPLES
from detector.training.run.parts import Run
from detector.training.run.run_report import write_run_report
from detector.training.run.validation import (
    Announced,
    Evaluation,
    defined,
    score,
    update_best,
    validation_losses,
    write_evaluation,
)
from detector.training.state.checkpoint import save_evaluation
from detector.training.state.progress import Progress
from detector.training.state.random_state import generators_kept

PICTURES_TOGETHER = 4  # of one size, elsewhere than on a CPU, where more are no faster
BATCH_LIMIT = 300.0  # seconds for one batch of an evaluation, after which the watchdog speaks


def evaluate_run(run: Run, watchdog: Watchdog) -> Evaluation | None:
    """Score the run's model on the val split, write the results, and keep the model if it is the best so far.

    All processes must call this. None where there is no val split. An interruption leaves nothing half
    done: files are replaced as a whole, and a resumed run evaluates again.
    """
    run.owes_evaluation = False
    iteration = run.progress.iteration
    if run.val_data is None:
        run.progress.evaluated_iteration = iteration
        return None
    process_group.copy_buffers_from_main(run.result)
    with generators_kept(), watchdog.phase(f"a batch of the evaluation at iteration {iteration}", BATCH_LIMIT):
        evaluation = _evaluate(run, watchdog)
    better = update_best(run.progress, iteration, evaluation.metrics.AP)
    if process_group.is_main():
        with watchdog.phase(f"writing the evaluation of iteration {iteration}", BATCH_LIMIT):
            _report(run, evaluation, better)
            _write(run, evaluation, better)
    return evaluation


def _evaluate(run: Run, watchdog: Watchdog) -> Evaluation:
    """The metrics, the detections, and the losses where they are wanted."""
    assert run.val_data is not None
    # A bar for people who look on; in a file it would be a thousand lines.
    progress = process_group.is_main() and sys.stderr.isatty()
    share = {"rank": process_group.rank(), "world_size": process_group.world_size()}
    together = 1 if run.device.type == "cpu" else PICTURES_TOGETHER
    images = evaluation_loader(run.val_data, run.config, together, device=run.device, warn=run.log.warning, **share)
    # The fast execution as the evaluate command runs it: both give the same AP.
    network = fuse(run.result, computing_type(detection_precision("auto", run.device)))
    with closing(Announced(images, watchdog.renew)) as image_batches:
        metrics, detections = score(
            network, run.val_data, run.val_truth, image_batches, run.device, progress, images.left_out
        )
    losses: dict[str, float] = {}
    if run.config.train.validation_loss:
        joint = build_joint(run.result, run.config.model, class_weights=run.class_weights)
        said_already = list[str]()  # of pictures that cannot be used, by the loader above
        pairs = validation_loader(run.val_data, run.config, device=run.device, warn=said_already.append, **share)
        with closing(Announced(pairs, watchdog.renew)) as batches:
            losses = validation_losses(joint, batches, run.device, run.precision)
    return Evaluation(metrics, detections, losses)


def _report(run: Run, evaluation: Evaluation, better: bool) -> None:
    """Report an evaluation in the log, metrics.jsonl and TensorBoard's curves; called in the main process alone."""
    iteration, losses = run.progress.iteration, evaluation.validation_losses
    numbers = evaluation.metrics.to_dict()
    run.log.info(evaluation_line(numbers, losses, run.progress, better))
    # An undefined number, pycocotools' −1, is null here and no point of a curve.
    known = {k: v if isinstance(v, list) else defined(v) for k, v in numbers.items()}
    per_class = [{k: defined(v) if k.startswith("AP") else v for k, v in one.items()} for one in numbers["per_class"]]
    run.log.metrics(
        {"iteration": iteration, "evaluation": known | {"per_class": per_class}, "validation_losses": losses}
    )
    curves = {f"val/{k}": v for k, v in known.items() if isinstance(v, float)}
    curves |= {f"val_AP/{one['name']}": one["AP"] for one in per_class if one["AP"] is not None}
    run.log.scalars(iteration, curves | {f"val_loss/{k}": v for k, v in losses.items()})


def evaluation_line(numbers: Mapping[str, Any], losses: Mapping[str, float], progress: Progress, better: bool) -> str:
    """One line for people. An undefined AP, where no ground truth counts for it, is n/a.

    Args:
        numbers: `CocoMetrics.to_dict`'s.
        losses: on the val split; may be empty.
        progress: after `update_best`, which returned `better`.
    """
    ap, ap50 = ("n/a" if (value := defined(numbers[k])) is None else f"{value:.4f}" for k in ("AP", "AP50"))
    line = f"evaluation at iteration {progress.iteration}: AP {ap}, AP50 {ap50}"
    if losses:
        parts = " ".join(f"{name} {value:.4f}" for name, value in losses.items())
        line += f", validation loss {sum(losses.values()):.4f} ({parts})"
    if count := len(numbers.get(UNREADABLE, ())):
        line += f", {count} picture{'' if count == 1 else 's'} could not be read"
    if better:
        return f"{line}; the best so far"
    if progress.best_ap is None:
        return f"{line}; there is no best yet"
    return f"{line}; the best is still {progress.best_ap:.4f} at iteration {progress.best_iteration}"


def _write(run: Run, evaluation: Evaluation, better: bool) -> None:
    """Write the files, the model if it is the best, and last the checkpoint's note of it; in the main process alone.

    After a kill in between, the evaluation is still due.
    """
    iteration, log = run.progress.iteration, run.log
    write_evaluation(run.output / EVALUATION, evaluation, iteration, log)
    worst = write_run_report(run, evaluation)
    count = run.config.train.sample_pictures
    if run.val_data is not None and count:
        write_samples(
            run.output / SAMPLES,
            run.val_data,
            evaluation.detections,
            count,
            iteration,
            log,
            worst,
            run.config.input,
        )
    try:
        if better:
            save_model(run.output / BEST_MODEL, run, evaluation)
        save_evaluation(run.checkpoints.folder, run.progress)
    except UserError as error:
        log.warning(str(error))
