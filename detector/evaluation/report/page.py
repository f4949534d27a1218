"""The report as one HTML file, which needs no network, no script and no other file; and its numbers as a table."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from detector.disk import write_atomically
from detector.evaluation.ground_truth import GroundTruth
from detector.evaluation.report.analyse import Analysis
from detector.evaluation.report.confusion import confusion_section
from detector.evaluation.report.markup import escape, metric, section
from detector.evaluation.report.run_curves import training_section
from detector.evaluation.report.sections import (
    calibration_section,
    classes_section,
    coco_section,
    curves_section,
    errors_section,
)
from detector.evaluation.report.worst import ShowPicture, no_pictures, worst_pictures, worst_section
from detector.evaluation.results import Results
from detector.printing import printable
from detector.version import __version__

REPORT_PAGE, REPORT_TABLE = "report.html", "report.csv"
BEST = ("threshold", "F1", "precision", "recall")
COLUMNS = ("category_id", "name", "boxes", "detections", "AP", "AP50", "AP75", "APs", "APm", "APl", *BEST)
MOST_SETTINGS = 200_000  # characters of the settings that are shown

CONTENTS = {
    "coco": "COCO",
    "classes": "classes",
    "curves": "curves",
    "confusion": "confusion",
    "errors": "errors",
    "calibration": "calibration",
    "worst": "worst pictures",
    "training": "training",
    "settings": "settings",
}


@dataclass(frozen=True)
class ReportContext:
    """What a report says about where its detections come from.

    model, data: in words. command: as it was typed. settings: YAML. history: the lines of the run's metrics.jsonl.
    show_picture: a picture by its id; None where it is not at hand.
    """

    model: str
    data: str
    command: str = ""
    settings: str = ""
    history: Sequence[Mapping[str, Any]] = ()
    show_picture: ShowPicture = no_pictures


def write_report(
    folder: Path, truth: GroundTruth, results: Results, analysis: Analysis, context: ReportContext
) -> Path:
    """Write `report.html` and `report.csv`, each whole or not at all.

    Args:
        folder: made where it is missing.
        truth: the annotations.
        results: the detections.
        analysis: of the same; the report shows these very numbers.
        context: where all that comes from.

    Returns:
        The path of the page.

    Raises:
        UserError: no room, no permission.
    """
    page = make_page(truth, results, analysis, context)
    write_atomically(folder / REPORT_TABLE, make_table(analysis).encode())
    write_atomically(folder / REPORT_PAGE, page.encode())
    return folder / REPORT_PAGE


def make_page(truth: GroundTruth, results: Results, analysis: Analysis, context: ReportContext) -> str:
    """The page's HTML."""
    worst = worst_pictures(truth, results, analysis)
    sections = [
        coco_section(analysis.metrics),
        classes_section(analysis.classes),
        curves_section(analysis),
        confusion_section(analysis),
        errors_section(analysis),
        calibration_section(analysis.calibration),
        worst_section(worst, truth, results, analysis, context.show_picture),
        training_section(context.history),
        _settings_section(context),
    ]
    there = [name for name in CONTENTS if any(f'<section id="{name}"' in part for part in sections)]
    links = "".join(f'<a href="#{name}">{CONTENTS[name]}</a>' for name in there)
    style = files("detector.evaluation.report").joinpath("page.css").read_text(encoding="utf-8")
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    metrics = analysis.metrics
    facts = f"{len(truth.image_ids):,} pictures, {int((~truth.iscrowd).sum()):,} boxes, {len(results):,} detections"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        # Nothing may be fetched, whatever a name in here contains.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(context.model)}: report</title><style>{style}</style></head><body><header>"
        f"<h1>{escape(context.model, 200)}</h1><p>{escape(context.data, 300)} · {facts} · {made} · detector "
        f'{__version__}</p><div class="headline"><div>{metric(metrics.AP)}<small>AP</small></div>'
        f"<div>{metric(metrics.AP50)}<small>AP50</small></div><div>{metric(metrics.AR100)}<small>AR100</small></div>"
        f"</div><nav>{links}</nav></header><main>{''.join(sections)}</main></body></html>\n"
    )


def make_table(analysis: Analysis) -> str:
    """A line for all classes and one for each, as CSV; undefined numbers are empty, thresholds on too few boxes too."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    total, best = analysis.metrics, analysis.curve.best()
    boxes = sum(one.boxes for one in analysis.classes)
    detections = sum(one.detections for one in analysis.classes)
    every = [total.AP, total.AP50, total.AP75, total.APs, total.APm, total.APl]
    rest = [] if best is None else [best.threshold, best.f1, best.precision, best.recall]
    writer.writerow(["", "all classes", boxes, detections, *map(_cell, every), *map(_cell, rest)])
    for one in analysis.classes:
        values = [one.AP, one.AP50, one.AP75, one.APs, one.APm, one.APl]
        if one.best is not None and one.enough:
            values += [one.best.threshold, one.best.f1, one.best.precision, one.best.recall]
        writer.writerow([one.category_id, printable(one.name), one.boxes, one.detections, *map(_cell, values)])
    return text.getvalue()


def _cell(value: float) -> str:
    return "" if value < 0 else repr(value)


def _settings_section(context: ReportContext) -> str:
    parts = []
    if context.command:
        parts.append(f"<h3>command</h3><pre>{escape(context.command, 5000)}</pre>")
    if context.settings:
        lines = context.settings[:MOST_SETTINGS].split("\n")
        text = "\n".join(escape(line, 2000) for line in lines)
        parts.append(f"<details><summary>all settings</summary><pre>{text}</pre></details>")
    return section("settings", "Settings", *parts) if parts else ""
