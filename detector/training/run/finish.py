"""The end of a run: its table, its final model, and what to do next."""

import shlex

from detector import process_group
from detector.datasets.dataset import DetectionDataset
from detector.errors import UserError
from detector.evaluation.explain import explain_low_ap
from detector.evaluation.ground_truth import GroundTruth
from detector.evaluation.report.label_sheet import write_label_errors
from detector.evaluation.report.worst import pictures_of
from detector.evaluation.results import check_results
from detector.evaluation.table import metrics_table
from detector.training.report.samples import sample_pictures
from detector.training.run.model_files import save_model
from detector.training.run.output import BEST_MODEL, EVALUATION, FINAL_MODEL, SAMPLES
from detector.training.run.parts import Run
from detector.training.run.validation import Evaluation, read_evaluation


def finish_run(run: Run, evaluation: Evaluation | None) -> None:
    """Print the COCO table, say where the model contradicts the labels, write the final model, whose file marks the run
    as finished, and say where all is.

    Args:
        evaluation: of the last iteration; None where there is no val split, or where an earlier start of the run has
            evaluated and was killed before this, whose files then say it.

    Raises:
        UserError: the final model cannot be written.
    """
    if run.progress.iteration < run.config.train.iterations:
        run.log.info(f"no better AP in {run.progress.evaluations_without_gain} evaluations (train.patience): it ends.")
    if process_group.is_main() and run.val_truth is not None and run.val_data is not None:
        evaluation = evaluation or read_evaluation(run.output / EVALUATION, run.progress.iteration)
        if evaluation is not None:
            report_evaluation(run, evaluation, run.val_truth, run.val_data)
    process_group.on_main(lambda: save_model(run.output / FINAL_MODEL, run, evaluation))
    for line in last_lines(run):
        run.log.info(line)


def report_evaluation(run: Run, evaluation: Evaluation, truth: GroundTruth, dataset: DetectionDataset) -> None:
    """Print the COCO table, what may lie behind a low AP, and write where the model contradicts the labels; in the main
    process. A failure is logged."""
    run.log.info("COCO metrics on the val split:\n" + metrics_table(evaluation.metrics))
    try:
        results = check_results(evaluation.detections, truth)
        lines = explain_low_ap(evaluation.metrics, truth, results)
        lines += write_label_errors(run.output / EVALUATION, truth, results, pictures_of(dataset, run.config.input))
    except (UserError, OSError) as error:
        run.log.warning(f"no table of labels to look at: {error}")
        return
    for line in lines:
        run.log.info(line)


def last_lines(run: Run) -> list[str]:
    """The last lines that a run prints: the files it has left, and the command to type next."""
    progress, final, best = run.progress, run.output / FINAL_MODEL, run.output / BEST_MODEL
    lines = []
    use = final
    if progress.best_ap is not None and best.is_file():
        lines.append(f"best model: {best} (AP {progress.best_ap:.4f} at iteration {progress.best_iteration})")
        use = best
    if sample_pictures(run.output / SAMPLES):
        lines.append(f"pictures of its detections beside ground truth: {run.output / SAMPLES}/")
    lines.append(f"next: faster-rcnn predict --weights {shlex.quote(str(use))} PICTURE_OR_FOLDER")
    return [*lines, f"finished: {final}"]
