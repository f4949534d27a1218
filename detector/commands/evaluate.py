"""COCO mAP of a model, or of a file of detections."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector import command
from detector.commands.detecting_words import describe_detecting
from detector.commands.scored_data import find_scored_data, first_of_a_run, given_truth
from detector.commands.tile_words import add_tile_arguments, tiling_of
from detector.errors import UserError
from detector.printing import log_to_screen, printable

if TYPE_CHECKING:
    from detector.datasets.dataset import DetectionDataset
    from detector.evaluation.coco_eval import CocoMetrics
    from detector.evaluation.ground_truth import GroundTruth
    from detector.evaluation.report.worst import ShowPicture
    from detector.inference.augmented import Detecting
    from detector.inference.predictor import Predictor

EXAMPLES = """examples:
  {program} --weights output/quickstart/model_best.safetensors
      on the val split that the model was trained beside, which config.yaml in the run's folder names
  {program} --weights output/cells/model_best.safetensors data=cells --split test
      on a split of a folder, which is understood as train understands it
  {program} --weights R101-C4-3x --annotations data/coco/annotations/instances_val2017.json \\
      --images data/coco/val2017 --output output/coco
  {program} --weights output/mine/model_best.safetensors input.min_size_test=600
      with one of the model's settings changed
  {program} --weights output/mine/model_best.safetensors --augment
      looking twice at each picture, the second time mirrored; model.detection.augment.… says how
  {program} --weights output/one/model_best.safetensors output/two/model_best.safetensors
      an ensemble of two models of the same classes
  {program} --weights output/mine/model_best.safetensors --tile 800
      larger pictures tile by tile
  {program} --detections output/coco/detections.json \\
      --annotations data/coco/annotations/instances_val2017.json
  {program} --weights output/mine/model_best.safetensors --output output/mine/report --report
      and report.html, which shows where the model is wrong
  torchrun --nproc-per-node=8 {launched} --weights R101-C4-3x --annotations … --images …
      eight GPUs, each image once

metrics.json has the keys AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl, fractions, −1 without ground truth, and
per_class; and unreadable_images where pictures could not be read, whose objects then count as missed. The exit code is
0, or 2 where something given could not be used, be it a picture (data.skip_unreadable_images=false stops there)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument(
        "--weights",
        action="append",
        help="a .safetensors, a published name, or another framework's file with --config; several detect together",
    )
    parser.add_argument("--config", help="config of another framework's weights")
    parser.add_argument("--boxes-only", action="store_true", help="of a Mask or Keypoint R-CNN, its box branch")
    parser.add_argument("--detections", type=Path, help="score this COCO results file instead of a model")
    parser.add_argument("--annotations", type=Path, help="ground truth (default: the val split of the weights' run)")
    parser.add_argument("--images", type=Path, help="folder of the pictures that the annotations name")
    parser.add_argument(
        "--split", choices=("train", "val", "test"), help="of the weights' run, or of data=FOLDER (default: val)"
    )
    parser.add_argument("--output", type=Path, help="folder for metrics.json and, of a model, detections.json")
    parser.add_argument(
        "--report", action="store_true", help="write report.html and report.csv too: where the model is wrong"
    )
    parser.add_argument(
        "--evaluator",
        choices=("pycocotools", "hotcoco"),
        default="pycocotools",
        help="hotcoco gives the same numbers faster (default: %(default)s)",
    )
    command.add_network_arguments(parser)
    command.add_augment_argument(parser)
    add_tile_arguments(parser)
    parser.add_argument("--num-workers", type=int, help="processes that read pictures (default: 2)")
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="key=value",
        help="data=FOLDER to score on, as train takes it; and settings of the weights' config to change",
    )


def check_arguments(args: argparse.Namespace) -> None:
    """Raise UserError for words that do not go together, and for what is not there, before anything takes time."""
    from detector.datasets.formats.yolo_splits import is_there

    if (args.weights is None) == (args.detections is None):
        raise UserError("give either --weights, to score a model, or --detections, to score a results file.")
    has_data = any(word.startswith("data=") for word in args.settings)
    if args.detections is not None and args.annotations is None and not has_data:
        raise UserError("--detections needs --annotations or data=FOLDER, the ground truth to score them against.")
    if args.annotations is not None and (has_data or args.split is not None):
        other = "data=FOLDER" if has_data else "--split"
        raise UserError(f"--annotations and {other} both say what to score on; give one of them.")
    words = [word for word in args.settings if not word.startswith(("data=", "data.format=", "data.hold_out"))]
    if args.detections is not None and words:
        raise UserError(f"{words[0]}: settings change a model; there is none with --detections.")
    if args.report and args.output is None:
        raise UserError("--report writes into the folder of --output; give one.")
    if args.weights is not None and (args.annotations is None) != (args.images is None):
        raise UserError("--annotations and --images belong together; give both, or none for the run's val split.")
    for path, what in ((args.annotations, "annotations"), (args.detections, "detections")):
        if path is not None and not is_there(path):
            raise UserError(f"{path}: cannot read the {what} (no such file or folder); check the path.")
    if args.images is not None and not args.images.is_dir():
        raise UserError(f"{args.images}: no such folder of pictures; check --images.")
    if args.output is not None and args.output.exists() and not args.output.is_dir():
        raise UserError(f"{args.output}: is a file; --output names a folder.")
    if args.weights is not None:
        from detector.inference.asked import check_asked

        settings = model_settings(args)
        check_asked(args.weights, args.config, settings, not args.plain, args.precision, args.compile)


def model_settings(args: argparse.Namespace) -> list[str]:
    """The words that are settings of the weights' config."""
    settings = [word for word in args.settings if not word.startswith("data=")]
    if args.num_workers is not None:
        settings.append(f"data.num_workers={args.num_workers}")
    return settings


def run(args: argparse.Namespace) -> int:
    """Detect where a model is given, score, print and write. Under torchrun every process calls this."""
    if command.is_first_process():
        log_to_screen()  # what fetching and converting weights has to say
    metrics = measure(args)
    return command.EXIT_USER_ERROR if metrics is not None and metrics.unreadable else 0


def measure(args: argparse.Namespace) -> CocoMetrics | None:
    """`run`, with the metrics; None in other processes than the main one."""
    check_arguments(args)

    from detector import process_group
    from detector.evaluation.ground_truth import ground_truth_of
    from detector.evaluation.incomplete import unreadable_beside
    from detector.evaluation.report.worst import pictures_of
    from detector.evaluation.results import read_results

    truth: GroundTruth | None
    try:
        if args.detections is not None:
            if not command.is_first_process():
                return None  # one process scores a file
            if args.annotations:
                truth, show_picture = given_truth(args.annotations, args.images)
            else:
                dataset = find_scored_data(args, None).open()
                truth, show_picture = ground_truth_of(dataset), pictures_of(dataset)
            detections = read_results(args.detections)
            source = str(args.detections)
            model = Scored(source, source, "", show_picture, unreadable_beside(args.detections))
            print(f"detections {source}, {len(detections)} of them\nannotations {truth.source}")
        else:
            with process_group.explain_lost_process("Start it again."):
                truth, detections, model = detect(args)
        return None if truth is None else report(args, truth, detections, model)
    finally:
        process_group.stop()


@dataclass(frozen=True)
class Scored:
    """What is scored: what messages call its detections, the model, its settings, the pictures by their ids, and what
    is wrong with those that could not be read."""

    source: str
    model: str
    settings: str
    show_picture: ShowPicture
    unreadable: tuple[str, ...] = ()


def describe_scoring(
    args: argparse.Namespace, predictor: Predictor, detecting: Detecting, dataset: DetectionDataset, batch_size: int
) -> list[str]:
    """What is about to be done, a line each, for people; the last is empty."""
    lines = [f"weights     {', '.join(map(printable, args.weights))}"]
    lines += describe_detecting(args, predictor, detecting, batch_size, 12, model_settings(args))
    lines.append(f"annotations {dataset.annotation_path}, {len(dataset)} images in {dataset.image_root}")
    lines.append(f"output      {args.output or 'none (--output writes metrics.json and detections.json)'}")
    return [*lines, ""]


def detect(args: argparse.Namespace) -> tuple[GroundTruth | None, list[dict[str, Any]], Scored]:
    """The ground truth and the detections of the model, both in the main process, which scores; and what is scored."""
    from tqdm import tqdm

    from detector import process_group
    from detector.categories import match_categories
    from detector.config import config_text
    from detector.datasets.loading.loader import evaluation_loader
    from detector.evaluation.ground_truth import ground_truth_of
    from detector.evaluation.report.worst import pictures_of
    from detector.inference.detect import detect_dataset, everywhere_left_out, gather_results
    from detector.inference.load import load
    from detector.inference.tiles import detect_dataset_tiled

    tiling = tiling_of(args)
    device = process_group.start(args.device)
    scored_data = find_scored_data(args, first_of_a_run(args.weights))  # before the weights, which take time
    how = (not args.plain, args.precision, args.compile, args.boxes_only)
    predictor = load(args.weights, args.config, str(device), model_settings(args), *how)
    dataset = scored_data.open()
    categories = match_categories(predictor.categories, dataset.categories)
    batch_size = args.batch_size or predictor.default_batch_size
    detecting = predictor.detecting(args.augment or None)
    if process_group.is_main():
        print(*describe_scoring(args, predictor, detecting, dataset, batch_size), sep="\n", flush=True)
    loader = evaluation_loader(
        dataset,
        replace(predictor.config, input=detecting.input),
        batch_size=batch_size,
        rank=process_group.rank(),
        world_size=process_group.world_size(),
        warn=lambda text: tqdm.write(f"warning: {printable(text)}", file=sys.stderr),
    )
    is_main = process_group.is_main()
    if tiling is not None:
        mine = range(process_group.rank(), len(dataset), process_group.world_size())
        local = detect_dataset_tiled(
            predictor, dataset, mine, tiling, categories, batch_size, args.augment or None, is_main
        )
    else:
        local = detect_dataset(detecting.network, loader, device, categories, is_main, predictor.precision)
    scored = Scored(
        "detections",
        ", ".join(args.weights),
        config_text(predictor.config),
        pictures_of(dataset, predictor.config.input),
        everywhere_left_out(loader.left_out),
    )
    return ground_truth_of(dataset) if is_main else None, gather_results(local, dataset.image_ids), scored


def report(
    args: argparse.Namespace, truth: GroundTruth, detections: list[dict[str, Any]], scored: Scored
) -> CocoMetrics:
    """Score, print, and write what --output asks for."""
    from detector.disk import write_atomically
    from detector.evaluation.coco_eval import evaluate_coco
    from detector.evaluation.explain import explain_low_ap
    from detector.evaluation.report.analyse import analyse
    from detector.evaluation.report.label_sheet import write_label_errors
    from detector.evaluation.report.page import ReportContext, write_report
    from detector.evaluation.results import check_results, write_results
    from detector.evaluation.table import metrics_table

    # What took long is on disk before anything else can fail, and all of it before the reader of our output can leave.
    if args.output is not None and args.weights is not None:
        write_results(args.output / "detections.json", detections)
    for note in truth.notes:
        print(f"warning: {truth.source}: {note}")
    metrics = evaluate_coco(truth, detections, args.evaluator, source=scored.source, unreadable=scored.unreadable)
    if args.output is not None:
        data = json.dumps(metrics.to_dict(), indent=1, ensure_ascii=False).encode()
        write_atomically(args.output / "metrics.json", data)
    print(f"\nCOCO metrics by {args.evaluator}\n{metrics_table(metrics)}")
    results = check_results(detections, truth, scored.source)
    for hint in explain_low_ap(metrics, truth, results):
        print(f"hint: {hint}")
    if args.output is not None:
        print(f"\nwrote {args.output / 'metrics.json'}")
    if args.report:
        context = ReportContext(
            scored.model, truth.source, command.typed_command(), scored.settings, show_picture=scored.show_picture
        )
        print(f"wrote {write_report(args.output, truth, results, analyse(truth, results, metrics), context)}")
        print(*map(printable, write_label_errors(args.output, truth, results, scored.show_picture)), sep="\n")
    return metrics
