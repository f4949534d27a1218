"""The end of a run: its table, its final model, and what to do next."""

import shlex

from detector import process_group
from detector.errors import UserError
from detector.evaluation.explain import explain_low_ap
from detector.evaluation.report.label_sheet import write_label_errors
from detector.evaluation.report.worst import pictures_of
from detector.evaluation.results import check_results
from detector.evaluation.table import metrics_table
from detector.training.report.samples import sample_pictures
from detector.training.run.model_files import save_model
from detector.training.run.output import BEST_MODEL, EVALUATION, FINAL_MODEL, SAMPLES
from detector.training.run.parts import Run
from detector.training.run.validation import Evaluation


def finish_run(run: Run, evaluation: Evaluation | None) -> None:
    """Print the COCO table, say where the model contradicts the labels, write the final model, whose file marks the run
    as finished, and say where all is.

    Raises:
        UserError: the final model cannot be written.
    """
    if evaluation is not None and process_group.is_main():
        run.log.info("COCO metrics on the val split:\n" + metrics_table(evaluation.metrics))
        if run.val_truth is not None:
            for line in explain_low_ap(evaluation.metrics, run.val_truth, evaluation.detections):
                run.log.info(line)
            write_doubtful_labels(run, evaluation)
    process_group.on_main(lambda: save_model(run.output / FINAL_MODEL, run, evaluation))
    for line in last_lines(run):
        run.log.info(line)


def write_doubtful_labels(run: Run, evaluation: Evaluation) -> None:
    """Write where the model contradicts the labels of the val split; in the main process. A failure is logged."""
    truth, dataset = run.val_truth, run.val_data
    assert truth is not None
    assert dataset is not None
    try:
        results = check_results(evaluation.detections, truth)
        lines = write_label_errors(run.output / EVALUATION, truth, results, pictures_of(dataset))
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
