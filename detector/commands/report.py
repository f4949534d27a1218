"""Show where a model is wrong: one HTML page, which opens without a network, from detections and annotations."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from detector import command
from detector.errors import UserError
from detector.printing import printable

if TYPE_CHECKING:
    from detector.config import Config
    from detector.evaluation.ground_truth import GroundTruth
    from detector.evaluation.report.worst import ShowPicture

DETECTIONS, CONFIG, METRICS = "detections.json", "config.yaml", "metrics.jsonl"

EXAMPLES = """examples:
  {program} output/quickstart
      of a training run: its newest evaluation, on the val split that its config.yaml names
  {program} output/coco --annotations data/coco/annotations/instances_val2017.json --images data/coco/val2017
      of a folder that `evaluate --output` wrote
  {program} --detections detections.json --annotations val.json --images images --output output/report
      of another program's COCO results

Writes report.html (COCO's numbers, classes, curves, confusion, kinds of error, calibration, the worst pictures),
report.csv, and label_errors.csv and .jpg: labels that the model contradicts, the surest first. Training writes the page
after every evaluation and the labels at its end, `evaluate --report` all of it after scoring. The exit code is 0, or 2
where something given could not be used."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument("folder", nargs="?", type=Path, metavar="RUN", help="folder of a training run or an evaluation")
    parser.add_argument("--detections", type=Path, help="COCO results file (default: that of RUN)")
    parser.add_argument("--annotations", type=Path, help="ground truth (default: the val split of RUN's config.yaml)")
    parser.add_argument("--images", type=Path, help="folder of the pictures that the annotations name")
    parser.add_argument("--output", type=Path, help="folder to write (default: where the detections are)")


def run(args: argparse.Namespace) -> int:
    """Score the detections, and write the report."""
    folder, detections = choose_detections(args)
    config = read_config(folder)

    from detector.config import config_text
    from detector.evaluation.coco_eval import evaluate_coco
    from detector.evaluation.incomplete import unreadable_beside
    from detector.evaluation.report.analyse import analyse
    from detector.evaluation.report.label_sheet import write_label_errors
    from detector.evaluation.report.page import ReportContext, write_report
    from detector.evaluation.results import check_results, read_results
    from detector.evaluation.table import metrics_table

    output = args.output or detections.parent
    print(f"detections  {printable(detections)}")
    truth, show_picture = read_truth(args, config, folder)
    print(f"annotations {printable(truth.source)}\noutput      {printable(output)}", flush=True)
    entries = read_results(detections)
    unreadable = unreadable_beside(detections)
    metrics = evaluate_coco(truth, entries, "hotcoco", source=str(detections), unreadable=unreadable)
    results = check_results(entries, truth, str(detections))
    context = ReportContext(
        model=str(folder or detections),
        data=truth.source,
        command=command.typed_command(),
        settings="" if config is None else config_text(config),
        history=read_history(folder),
        show_picture=show_picture,
    )
    page = write_report(output, truth, results, analyse(truth, results, metrics), context)
    print(f"\nCOCO metrics by hotcoco\n{metrics_table(metrics)}\n\nwrote {printable(page)}")
    print(*map(printable, write_label_errors(output, truth, results, show_picture)), sep="\n")
    return 0


def choose_detections(args: argparse.Namespace) -> tuple[Path | None, Path]:
    """The folder of the run, if one is given, and the file of detections. Raises UserError where there is none."""
    folder: Path | None = args.folder
    if args.detections is not None:
        if not args.detections.is_file():
            raise UserError(f"{args.detections}: no such file of detections; check the path.")
        return folder, args.detections
    if folder is None:
        raise UserError("give the folder of a run or an evaluation, or --detections and --annotations.")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give that of a run or an evaluation.")
    for path in (folder / "evaluation" / DETECTIONS, folder / DETECTIONS):
        if path.is_file():
            return folder, path
    raise UserError(
        f"{folder}: holds no {DETECTIONS}; training writes it at an evaluation, and `evaluate --output` after scoring."
    )


def read_config(folder: Path | None) -> Config | None:
    """The settings of the run in this folder, if there is one."""
    from detector.config import load_config

    if folder is None or not (folder / CONFIG).is_file():
        return None
    return load_config(folder / CONFIG)


def read_truth(args: argparse.Namespace, config: Config | None, folder: Path | None) -> tuple[GroundTruth, ShowPicture]:
    """The annotations, given or the run's, and the pictures by their ids.

    Raises:
        UserError: nothing says which annotations, or they cannot be read.
    """
    from detector.commands.scored_data import given_truth
    from detector.datasets.splits import open_split
    from detector.evaluation.ground_truth import ground_truth_of
    from detector.evaluation.report.worst import pictures_of

    annotations, images = args.annotations, args.images
    settings = None if config is None else config.input
    if annotations is None:
        if config is None:
            where = folder or args.detections
            raise UserError(f"{where}: nothing says which annotations it is of; give --annotations.")
        dataset = open_split(config.data, "val", drop_degenerate_boxes=True)
        return ground_truth_of(dataset), pictures_of(dataset, settings)
    return given_truth(annotations, images, settings)


def read_history(folder: Path | None) -> list[dict[str, object]]:
    """The lines of the run's metrics.jsonl; none where there is no such file."""
    from detector.training.report.logs import read_metrics

    path = None if folder is None else folder / METRICS
    return read_metrics(path) if path is not None and path.is_file() else []
