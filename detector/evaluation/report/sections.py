"""The sections of a report, each a function from numbers to HTML."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detector.evaluation.coco_eval import METRICS, CocoMetrics
from detector.evaluation.incomplete import describe_incomplete
from detector.evaluation.report.analyse import Analysis, ClassReport
from detector.evaluation.report.charts import Axes, Line, line_chart, reliability_chart
from detector.evaluation.report.markup import escape, metric, note, section, table
from detector.evaluation.report.thresholds import ENOUGH_BOXES

MOST_ROWS = 500  # classes in the table, those with most boxes; report.csv has all
MOST_CHARTS = 60  # classes with curves of their own
GRID = np.linspace(0, 1, 101)
BEST = ("best score threshold", "F1", "precision", "recall")
COLUMNS = ("class", "boxes", "detections", "AP", "AP50", "AP75", "small", "medium", "large", *BEST, "ECE")
MEANING = {
    "AP": "mean over IoU 0.50 … 0.95",
    "AP50": "IoU 0.50",
    "AP75": "IoU 0.75",
    "APs": "boxes below 32² pixels",
    "APm": "32² to 96² pixels",
    "APl": "above 96² pixels",
    "AR1": "recall with 1 detection an image",
    "AR10": "with 10",
    "AR100": "with 100",
    "ARs": "recall of small boxes",
    "ARm": "of medium boxes",
    "ARl": "of large boxes",
}
ERROR_MEANING = {
    "localisation": "right class, overlap of 0.1 to 0.5",
    "class": "right place, wrong class",
    "class and localisation": "wrong class, overlap of 0.1 to 0.5",
    "duplicate": "an object that a surer detection has already",
    "background": "nothing is there (overlap below 0.1)",
    "missed": "an object that no detection comes near",
}


def coco_section(metrics: CocoMetrics) -> str:
    """COCO's twelve numbers, below what is to be known of them where they are not those of the whole set."""
    rows = [(f"<b>{name}</b>", escape(MEANING[name]), metric(getattr(metrics, name))) for name in METRICS]
    tables = [table(("", "", "value"), half, numeric_from=2) for half in (rows[:6], rows[6:])]
    incomplete = describe_incomplete(metrics.unreadable)
    warning = [] if incomplete is None else [note(f"<b>{escape(incomplete, 1000)}</b>")]
    return section("coco", "COCO metrics", *warning, f'<div class="row">{"".join(tables)}</div>')


def classes_section(classes: Sequence[ClassReport]) -> str:
    """AP per class and size, and the threshold of best F1 of each."""
    chosen = _most_boxes(classes, MOST_ROWS)
    left_out = f" The {MOST_ROWS} classes with most boxes are shown; report.csv has all." if chosen != classes else ""
    return section(
        "classes",
        "Classes",
        note(
            "The score threshold of best F1 is <b>chosen on this data</b>: on other pictures the best one differs, and "
            f"F1, precision and recall at it are too favourable. Fewer than {ENOUGH_BOXES} boxes are too few to choose "
            f"on. ECE: mean distance between score and share of right detections.{left_out}"
        ),
        f'<div class="tall">{table(COLUMNS, [_class_row(one) for one in chosen])}</div>',
    )


def curves_section(analysis: Analysis) -> str:
    """Precision over recall, and precision, recall and F1 over the score threshold, of all classes and of each."""
    by_recall = [
        Line(name, GRID, _defined(values))
        for name, values in zip(("IoU 0.50", "IoU 0.75", "mean 0.50 … 0.95"), analysis.precision, strict=True)
    ]
    curve = analysis.curve.at(GRID)
    by_score = [
        Line("F1", curve.thresholds, curve.f1),
        Line("precision", curve.thresholds, curve.precision),
        Line("recall", curve.thresholds, curve.recall),
    ]
    best = analysis.curve.best()
    mark = None if best is None else (best.threshold, best.f1)
    said = "" if best is None else f"Best F1 of all classes together: {best.f1:.3f} at score {best.threshold:.3f}. "
    return section(
        "curves",
        "Precision, recall and F1",
        note(f"{said}Thresholds are chosen on this data. Left: mean over classes. Right: all detections, IoU 0.50."),
        '<div class="row">',
        line_chart(by_recall, Axes("recall", "precision"), "precision over recall, mean over classes"),
        line_chart(by_score, Axes("score threshold", ""), "F1, precision and recall over the score threshold", mark),
        "</div>",
        *_class_charts(analysis.classes),
    )


def errors_section(analysis: Analysis) -> str:
    """How many errors there are of each kind, and what each kind costs."""
    rows = [
        (
            f"<b>{escape(kind.name)}</b>",
            escape(ERROR_MEANING[kind.name]),
            f"{kind.count:,}",
            f"{kind.count_shown:,}",
            f"{100 * kind.cost:.2f}",
        )
        for kind in analysis.errors
    ]
    shown = f"score ≥ {analysis.threshold:.3f}"
    return section(
        "errors",
        "Kinds of error",
        note(
            "Each false detection has one kind, by its best overlap (TIDE, Bolya et al. 2020). The cost is the AP50, "
            "in points, that fixing all errors of the kind would gain. Most errors of a low score cost nothing: the "
            f"second count is of detections with {shown}, where boxes of any class match best on this data."
        ),
        table(("kind", "", "all", shown, "cost"), rows, numeric_from=2),
    )


def calibration_section(calibration: Mapping[str, Any]) -> str:
    """Whether a score of 0.8 is right in 8 of 10 cases."""
    bins = [(b["bin_lower"], b["bin_upper"], b["avg_accuracy"], int(b["count"])) for b in calibration["bins"]]
    return section(
        "calibration",
        "Calibration",
        note(
            "Share of detections that are right (IoU 0.50), by score. Calibrated ones end at the line; those below it "
            f"are too sure of themselves. Expected calibration error {calibration['ece']:.3f}, largest "
            f"{calibration['mce']:.3f}, of {calibration['num_detections']:,} detections."
        ),
        reliability_chart(bins, Axes("score", "share right"), "share of right detections by score"),
    )


def _class_row(one: ClassReport) -> list[str]:
    cells = [escape(one.name), f"{one.boxes:,}", f"{one.detections:,}"]
    cells += [metric(value) for value in (one.AP, one.AP50, one.AP75, one.APs, one.APm, one.APl)]
    if not one.enough:
        cells += ['<span class="none">too few</span>', "", "", ""]
    elif one.best is None:
        cells += ['<span class="none">none is right</span>', "", "", ""]
    else:
        cells += [metric(value) for value in (one.best.threshold, one.best.f1, one.best.precision, one.best.recall)]
    return [*cells, metric(one.calibration_error)]


def _class_charts(classes: Sequence[ClassReport]) -> list[str]:
    """Two small charts for each class with boxes, folded away."""
    shown = [one for one in _most_boxes(classes, MOST_CHARTS) if one.boxes]
    if not shown:
        return []
    size = (230, 170)
    parts = [
        f"<details{' open' if len(shown) <= 6 else ''}><summary>per class ({len(shown)})</summary><div class='row'>"
    ]
    for one in shown:
        curve = one.curve.at(GRID)
        mark = None if one.best is None else (one.best.threshold, one.best.f1)
        recall = [Line("", GRID, _defined(values)) for values in one.precision]
        parts.append(f'<div class="card"><h3>{escape(one.name)}</h3>')
        parts.append(line_chart(recall, Axes("recall", "precision", size=size), f"{one.name}: precision over recall"))
        f1 = [Line("", curve.thresholds, curve.f1)]
        parts.append(line_chart(f1, Axes("score", "F1", size=size), f"{one.name}: F1 over score", mark))
        parts.append("</div>")
    return [*parts, "</div></details>"]


def _most_boxes(classes: Sequence[ClassReport], count: int) -> Sequence[ClassReport]:
    """The classes in their order; of more than `count` those with the most boxes."""
    if len(classes) <= count:
        return classes
    return sorted(classes, key=lambda one: -one.boxes)[:count]


def _defined(values: np.ndarray) -> np.ndarray:
    """The curve with NaN where it is undefined."""
    return np.where(values < 0, np.nan, values)
