"""The report of a run's evaluation: where the model is wrong, as a page beside its metrics."""

import numpy as np

from detector.command import typed_command
from detector.config import config_text
from detector.errors import UserError
from detector.evaluation.report.analyse import Analysis, analyse
from detector.evaluation.report.page import ReportContext, write_report
from detector.evaluation.report.sections import GRID
from detector.evaluation.report.worst import pictures_of, worst_pictures
from detector.evaluation.results import check_results
from detector.training.report.logs import METRICS_FILE, read_metrics
from detector.training.run.output import EVALUATION
from detector.training.run.parts import Run
from detector.training.run.validation import Evaluation

MOST_CURVES = 100  # classes whose precision curves TensorBoard gets


def write_run_report(run: Run, evaluation: Evaluation) -> list[int]:
    """Write `report.html` and `report.csv`, and TensorBoard's curves of precision over recall; for the main process.

    Returns the ids of the pictures with most errors, the worst first. A failure is logged and the run goes on.
    """
    truth, dataset = run.val_truth, run.val_data
    assert truth is not None
    assert dataset is not None
    try:
        results = check_results(evaluation.detections, truth)
        analysis = analyse(truth, results, evaluation.metrics)
        context = ReportContext(
            model=f"{run.output}, iteration {run.progress.iteration}",
            data=truth.source,
            command=typed_command(),
            settings=config_text(run.config),
            history=read_metrics(run.output / METRICS_FILE) if (run.output / METRICS_FILE).is_file() else (),
            show_picture=pictures_of(dataset, run.config.input),
        )
        write_report(run.output / EVALUATION, truth, results, analysis, context)
    except (UserError, OSError) as error:
        run.log.warning(f"no report of this evaluation: {error}")
        return []
    add_precision_curves(run, analysis)
    return [one.image_id for one in worst_pictures(truth, results, analysis)]


def add_precision_curves(run: Run, analysis: Analysis) -> None:
    """Give TensorBoard the curve of all classes together at IoU 0.5, and that of each class."""
    curves = {"all": analysis.precision[0]}
    curves |= {one.name: one.precision[0] for one in analysis.classes[:MOST_CURVES]}
    for name, precision in curves.items():
        if np.all(precision >= 0):
            run.log.precision_curve(run.progress.iteration, f"val_precision/{name}", GRID, precision)
