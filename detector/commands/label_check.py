"""What a trained model says against the labels of a split, as `check-data --weights` writes it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from detector import command
from detector.errors import UserError
from detector.printing import printable

if TYPE_CHECKING:
    from detector.datasets.formats.contents import Format
    from detector.inference.predictor import Predictor

DEFAULT_FOLDER = Path("output/check_data")
_MANY = 20  # pictures, for which a terminal gets a bar


def add_label_arguments(parser: argparse.ArgumentParser) -> None:
    """The words that have a model look at the labels."""
    parser.add_argument(
        "--weights",
        metavar="W",
        help="a model of the same classes (.safetensors, or a published name): write label_errors.jpg and .csv of each "
        f"split, where it contradicts the labels, the surest first, into --sheet's folder (default: {DEFAULT_FOLDER})",
    )
    parser.add_argument(
        "--most", type=command.positive, default=60, metavar="N", help="such labels of a split (default: %(default)s)"
    )
    command.add_device_argument(parser)


def load_model(args: argparse.Namespace, say: Callable[[str], None]) -> Predictor | None:
    """The model of --weights; None where there is none. Raises UserError where it cannot be used."""
    if args.weights is None:
        return None
    if args.no_images:
        raise UserError("--weights looks at pictures, which --no-images leaves closed; give one of them.")
    from detector.inference.load import load

    predictor = load(args.weights, device=args.device)
    say(f"weights     {printable(args.weights)}, on {predictor.device}")
    return predictor


def check_labels(
    args: argparse.Namespace,
    predictor: Predictor | None,
    data_format: Format,
    annotations: Path,
    images: Path,
    name: str,
    say: Callable[[str], None],
) -> None:
    """Detect in a split, and write where the model contradicts its labels; a split that cannot be read is said.

    Args:
        predictor: None: nothing is done.
        data_format, annotations, images: of the split.
        name: of the split, with which the files' names begin.

    Raises:
        UserError: the model's classes are others.
    """
    if predictor is None:
        return
    from detector.categories import match_categories
    from detector.datasets.formats.open_dataset import open_dataset, read_contents
    from detector.datasets.loading.loader import evaluation_loader
    from detector.evaluation.ground_truth import ground_truth_from
    from detector.evaluation.report.label_sheet import write_label_errors
    from detector.evaluation.report.worst import pictures_of
    from detector.evaluation.results import check_results
    from detector.inference.detect import detect_dataset

    try:
        dataset = open_dataset(data_format, annotations, images)
        truth = ground_truth_from(read_contents(data_format, annotations, images))
    except UserError as error:
        say(f"no labels to look at: {error}")
        return
    categories = match_categories(predictor.categories, dataset.categories)
    loader = evaluation_loader(dataset, predictor.config, predictor.default_batch_size, warn=say)
    bar = len(dataset) > _MANY and sys.stderr.isatty()
    detections = detect_dataset(predictor.network, loader, predictor.device, categories, bar)
    results = check_results(detections, truth)
    folder = args.sheet or DEFAULT_FOLDER
    show = pictures_of(dataset, predictor.config.input)
    for line in write_label_errors(folder, truth, results, show, f"{name}_", args.most):
        say(line)
