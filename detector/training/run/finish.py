"""Scoring a run's model, keeping the best, and writing the last."""

import sys
from contextlib import closing
from typing import Any

import torch

import detector
from detector import process_group
from detector.datasets.loading.loader import evaluation_loader, validation_loader
from detector.drawing.sheet import write_samples
from detector.errors import UserError
from detector.evaluation.explain import explain_low_ap
from detector.evaluation.table import metrics_table
from detector.fast.fuse import fuse
from detector.training.joint import build_joint
from detector.training.process.watchdog import Watchdog
from detector.training.report.validation import (
    Announced,
    Evaluation,
    score,
    update_best,
    validation_losses,
    write_evaluation,
)
from detector.training.run.output import BEST_MODEL, EVALUATION, FINAL_MODEL, SAMPLES
from detector.training.run.run import Run
from detector.weights.files import save_weights

BATCH_LIMIT = 300.0  # seconds for one batch of an evaluation, after which the watchdog speaks


def evaluate_run(run: Run, watchdog: Watchdog) -> Evaluation | None:
    """Score the run's model on the val split, write what was found, and keep the model if it is the best so far.

    All processes must call this. None where there is no val split. Interrupted at any moment it leaves nothing half
    done: files are replaced as wholes, and a run that goes on evaluates again.
    """
    iteration = run.progress.iteration
    if run.val_data is None:
        run.progress.evaluated_iteration = iteration
        return None
    process_group.copy_buffers_from_main(run.result)

    def announce() -> None:
        watchdog.phase(f"a batch of the evaluation at iteration {iteration}", BATCH_LIMIT)

    # A bar for people who look on; in a file it would be a thousand lines.
    progress = process_group.is_main() and sys.stderr.isatty()
    share = {"rank": process_group.rank(), "world_size": process_group.world_size()}
    images = evaluation_loader(run.val_data, run.config, device=run.device, warn=run.log.warning, **share)
    # The fast execution in float32, as `evaluate.py` has it: both give the same AP.
    network = fuse(run.result)
    with closing(Announced(images, announce)) as image_batches:
        metrics, detections = score(network, run.val_data, run.val_truth, image_batches, run.device, progress)
    losses: dict[str, float] = {}
    if run.config.train.validation_loss:
        joint = build_joint(run.result, run.config.model)
        said_already = list[str]()  # of pictures that cannot be used, by the loader above
        pairs = validation_loader(run.val_data, run.config, device=run.device, warn=said_already.append, **share)
        with closing(Announced(pairs, announce)) as batches:
            losses = validation_losses(joint, batches, run.device, run.precision)
    watchdog.phase(f"writing the evaluation of iteration {iteration}", BATCH_LIMIT)
    evaluation = Evaluation(metrics, detections, losses)
    better = update_best(run.progress, iteration, metrics.AP)
    if process_group.is_main():
        _write(run, evaluation, better)
    return evaluation


def finish_run(run: Run, evaluation: Evaluation | None) -> None:
    """Print the COCO table and write the final model: its file marks the run as finished.

    Raises:
        UserError: the final model cannot be written.
    """
    if evaluation is not None and process_group.is_main():
        run.log.info("COCO metrics on the val split:\n" + metrics_table(evaluation.metrics))
        if run.val_truth is not None:
            for line in explain_low_ap(evaluation.metrics, run.val_truth, evaluation.detections):
                run.log.info(line)
    process_group.on_main(lambda: _save_model(run, FINAL_MODEL, evaluation))
    run.log.info(f"finished: {run.output / FINAL_MODEL}")


def _write(run: Run, evaluation: Evaluation, better: bool) -> None:
    """In the main process: the log, the pictures, and the model if it is the best."""
    progress, log = run.progress, run.log
    iteration, metrics, losses = progress.iteration, evaluation.metrics, evaluation.validation_losses
    summary = f"evaluation at iteration {iteration}: AP {metrics.AP:.4f}, AP50 {metrics.AP50:.4f}"
    if losses:
        parts = " ".join(f"{name} {value:.4f}" for name, value in losses.items())
        summary += f", validation loss {sum(losses.values()):.4f} ({parts})"
    best = "the best so far" if better else f"best {progress.best_ap} at iteration {progress.best_iteration}"
    log.info(f"{summary}; {best}")
    log.metrics({"iteration": iteration, "evaluation": metrics.to_dict(), "validation_losses": losses})
    curves = {f"val/{k}": v for k, v in metrics.to_dict().items() if k != "per_class"}
    log.scalars(iteration, curves | {f"val_loss/{k}": v for k, v in losses.items()})
    write_evaluation(run.output / EVALUATION, evaluation, iteration, log)
    if run.val_data is not None and run.config.train.sample_pictures:
        count = run.config.train.sample_pictures
        write_samples(run.output / SAMPLES, run.val_data, evaluation.detections, count, iteration, log)
    if better:
        try:
            _save_model(run, BEST_MODEL, evaluation)
        except UserError as error:
            log.warning(str(error))


def _save_model(run: Run, name: str, evaluation: Evaluation | None) -> None:
    save_weights(run.output / name, run.result.state_dict(), run.config, run.categories, provenance(run, evaluation))


def provenance(run: Run, evaluation: Evaluation | None) -> dict[str, Any]:
    """What trained a model, on what, for how long, and how good it was, for its weights file."""
    progress = run.progress
    return {
        "trained_by": f"detector {detector.__version__}, torch {torch.__version__}, {run.device.type}, {run.precision}",
        "data": run.train_data.annotation_path,
        "started_from": run.config.model.weights or run.config.model.backbone.weights,
        "iterations": progress.iteration,
        "images": progress.images,
        "seconds": progress.seconds,
        "averaged": run.averaged is not None,
        "evaluated_on": run.val_data.annotation_path if run.val_data else None,
        "metrics": {k: v for k, v in evaluation.metrics.to_dict().items() if k != "per_class"} if evaluation else None,
    }
