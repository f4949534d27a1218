"""Find every fault of an annotated set of pictures, say what to do about it, and fix what needs no decision."""

import argparse
import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from detector import command
from detector.commands.check_data_words import check_arguments, check_sheets_place, is_folder_word
from detector.commands.label_check import add_label_arguments, check_labels, load_model
from detector.config import Config, load_config
from detector.datasets.checks.across_splits import check_classes, check_leaks
from detector.datasets.checks.examine import Examined, examine
from detector.datasets.checks.pictures import Picture, sizes_of
from detector.datasets.checks.repair import repair
from detector.datasets.checks.summary import describe_anchors, describe_counts, describe_sizes
from detector.datasets.fault_kinds import KINDS, MISSING_PICTURE, MISSING_SPLIT
from detector.datasets.faults import Fault, by_kind
from detector.datasets.formats.contents import Format
from detector.datasets.formats.open_dataset import guess_format
from detector.datasets.formats.yolo_splits import picture_folders
from detector.datasets.layouts.apply import describe_layout, take_data_word, with_layout
from detector.datasets.splits import describe_hold_out
from detector.disk import write_atomically
from detector.errors import UserError
from detector.printing import log_to_screen

EXAMPLES = """examples:
  {program} data=FOLDER
      every split of a folder, which is understood as train understands it, and whether a picture is in two of them
  {program} data=FOLDER --weights output/cells/model_best.safetensors
      and where a trained model contradicts the labels: missing, wrong and doubtful ones, the surest first
  {program} train.json --images images
  {program} train.json --images images --against val.json
      and whether a picture is in both, whatever it is called
  {program} train.json --images images --fix fixed.json
      fixes what needs no decision, lists it, and leaves train.json alone
  {program} VOC2012/ImageSets/Main/train.txt --images VOC2012/JPEGImages
  {program} data.yaml --images images/train --format yolo --report faults.csv
  {program} instances_train2017.json --no-images
      seconds: only what the annotations say

The exit code is 0 for sound data, and 2 where there are faults (--ignore leaves kinds of them out of account)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument(
        "annotations",
        type=Path,
        help="data=FOLDER; or COCO's JSON; VOC's folder or list of names; YOLO's data.yaml, a split of it "
        "(data.yaml#train) or labels folder",
    )
    parser.add_argument("--images", type=Path, help="folder of the pictures")
    parser.add_argument(
        "--format",
        choices=("coco", "voc", "yolo"),
        help="(default: coco for JSON, voc where there are .xml files, else yolo)",
    )
    parser.add_argument("--no-images", action="store_true", help="do not open the pictures")
    parser.add_argument(
        "--against", type=Path, metavar="OTHER", help="another split, to share no picture with this one"
    )
    parser.add_argument("--other-images", type=Path, help="its folder of pictures (default: that of --images)")
    parser.add_argument(
        "--fix",
        type=Path,
        metavar="OUT.json",
        help="write a copy without the faults that need no decision, as COCO JSON",
    )
    parser.add_argument(
        "--sheet",
        type=Path,
        metavar="FOLDER",
        help="write a JPEG of each split: objects of each class, the rarest class first, the smallest and strangest",
    )
    add_label_arguments(parser)
    parser.add_argument("--report", type=Path, metavar="FILE.csv", help="write every fault as a line")
    parser.add_argument(
        "--show", type=command.whole, default=20, help="faults to print of each kind, 0: all (%(default)s)"
    )
    parser.add_argument(
        "--ignore",
        nargs="+",
        default=[],
        choices=[kind.name for kind in KINDS],
        metavar="KIND",
        help="kinds of fault to leave out of account, as they are printed",
    )
    parser.add_argument("--config", type=Path, help="whose anchors to compare with the boxes (default: the defaults)")
    parser.add_argument(
        "--workers",
        type=command.whole,
        default=min(8, os.cpu_count() or 1),
        help="threads that decode (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Print what the data contain and every fault in them; returns the exit code, 2 where there are faults."""
    log_to_screen()  # what fetching and converting weights has to say
    return command.EXIT_USER_ERROR if check(args, print) else 0


def check(args: argparse.Namespace, say: Callable[[str], None]) -> list[Fault]:
    """Every fault of the data, but for the kinds to ignore; what they contain is said line by line."""
    check_arguments(args)
    config = Config() if args.config is None else load_config(args.config)
    if is_folder_word(args):
        return check_folder(args, config, say)
    data_format = args.format or guess_format(args.annotations)
    folders = [] if args.images is None else picture_folders(args.annotations, args.images)
    check_sheets_place(args, data_format, folders)
    predictor = load_model(args, say)
    say(f"annotations {args.annotations} ({data_format})")
    say(f"pictures    {'stay closed' if args.no_images else args.images}")
    if args.against is not None:
        say(f"against     {args.against}")
    if args.fix is not None:
        say(f"output      {args.fix}")
    examined = look(args, data_format, args.annotations, args.images, keep_masks=args.fix is not None)
    faults = examined.faults
    if args.against is not None:
        faults = faults + compare(args, data_format, examined)
    faults = [fault for fault in faults if fault.kind.name not in args.ignore]

    say_all(say, ["", *describe_counts(examined.columns, data_format), *describe_sizes(examined.columns)])
    say(describe_anchors(examined.columns, config))
    if args.report is not None:
        write_report(args.report, faults)
    say_all(say, describe_faults(faults, args.show))
    if args.images is not None:
        name = args.annotations.name.partition(".")[0]
        draw(args, data_format, args.annotations, args.images, name, say)
        check_labels(args, predictor, data_format, args.annotations, args.images, name, say)
    if args.fix is not None:
        fix(args, examined, faults, say)
    return faults


def check_folder(args: argparse.Namespace, config: Config, say: Callable[[str], None]) -> list[Fault]:
    """The faults of every split of a folder, and the pictures that two splits share."""
    words = [str(args.annotations), *([f"data.format={args.format}"] if args.format else [])]
    layout = take_data_word(words)[1]
    assert layout is not None
    places = layout.splits.values()
    folders = [folder for place in places for folder in picture_folders(place.annotations, place.images)]
    check_sheets_place(args, layout.format, folders)
    predictor = load_model(args, say)
    say_all(say, describe_layout(layout))
    if "val" not in layout.splits and "train" in layout.splits:
        say(describe_hold_out(with_layout(config.data, layout)))
    lost = [Fault(MISSING_SPLIT, detail=layout.lost_train)] if layout.lost_train else []
    all_faults = [fault for fault in lost if fault.kind.name not in args.ignore]
    if all_faults:
        say_all(say, describe_faults(all_faults, args.show))
    looked_at: list[tuple[Examined, Path]] = []
    for split, place in layout.splits.items():
        say(f"\n{split}: {place.annotations} ({layout.format}), pictures in {place.images}")
        examined = look(args, layout.format, place.annotations, place.images)
        say_all(say, [*describe_counts(examined.columns, layout.format), *describe_sizes(examined.columns)])
        say(describe_anchors(examined.columns, config))
        faults = list(examined.faults)
        for other, images in looked_at:
            is_training = "train" in layout.splits and other is looked_at[0][0]
            faults += check_classes(layout.format, other.columns, examined.columns, is_training)
            if not args.no_images:
                pictures = (other.pictures, examined.pictures)
                faults += check_leaks(other.columns, images, examined.columns, place.images, *pictures)
        looked_at.append((examined, place.images))
        faults = [fault for fault in faults if fault.kind.name not in args.ignore]
        say_all(say, describe_faults(faults, args.show))
        draw(args, layout.format, place.annotations, place.images, split, say)
        check_labels(args, predictor, layout.format, place.annotations, place.images, split, say)
        all_faults += faults
    if args.report is not None:
        write_report(args.report, all_faults)
    return all_faults


def draw(
    args: argparse.Namespace,
    data_format: Format,
    annotations: Path,
    images: Path,
    name: str,
    say: Callable[[str], None],
) -> None:
    """Write a split's sheet of objects, where --sheet asks for it and the split can be read."""
    if args.sheet is None:
        return
    from detector.datasets.formats.open_dataset import open_dataset
    from detector.evaluation.ground_truth_sheet import write_ground_truth_sheet

    path = args.sheet / f"{name}.jpg"
    try:
        problems = write_ground_truth_sheet(open_dataset(data_format, annotations, images), path)
    except UserError as error:
        say(f"no sheet: {error}")
        return
    say_all(say, [*(f"not on the sheet: {problem}" for problem in problems), f"wrote {path}"])


def say_all(say: Callable[[str], None], lines: Iterable[str]) -> None:
    """Say each line."""
    for line in lines:
        say(line)


def look(
    args: argparse.Namespace, data_format: Format, annotations: Path, images: Path | None, keep_masks: bool = False
) -> Examined:
    """Examine a split, with a progress bar where there are many pictures to open."""

    def progress(pictures: Iterable[Picture], total: int) -> Iterable[Picture]:
        return tqdm(pictures, total=total, unit="picture", disable=None if total > 100 else True)

    return examine(data_format, annotations, images, progress, not args.no_images, max(1, args.workers), keep_masks)


def compare(args: argparse.Namespace, data_format: Format, examined: Examined) -> list[Fault]:
    """The faults between two splits: categories that differ, and pictures in both."""
    other_images = args.other_images or args.images
    other = look(args, data_format, args.against, other_images)
    differences = check_classes(data_format, examined.columns, other.columns)
    pictures = (examined.pictures, other.pictures)
    if args.images is None:
        return differences
    return differences + check_leaks(examined.columns, args.images, other.columns, other_images, *pictures)


def describe_faults(faults: Sequence[Fault], show: int) -> list[str]:
    """The faults by kind: what each kind means, what to do about it, and its instances."""
    if not faults:
        return ["\nno faults"]
    lines = []
    for kind, of_kind in by_kind(faults).items():
        lines += [f"\n{kind.name} ({len(of_kind)}): {kind.meaning}.", f"  {kind.remedy}."]
        shown = of_kind if show == 0 else of_kind[:show]
        lines += [f"  - {fault}" for fault in shown]
        if len(of_kind) > len(shown):
            lines.append(
                f"  … and {len(of_kind) - len(shown)} more; --show 0 prints all, --report FILE.csv writes them"
            )
    return [*lines, f"\n{len(faults)} {'fault' if len(faults) == 1 else 'faults'}"]


def write_report(path: Path, faults: Iterable[Fault]) -> None:
    """All faults as a table."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("kind", "image_id", "file_name", "annotation", "detail", "remedy"))
    for fault in faults:
        annotation = "" if fault.annotation is None else fault.annotation
        image_id = "" if fault.image_id is None else fault.image_id
        writer.writerow((fault.kind.name, image_id, fault.image, annotation, fault.detail, fault.kind.remedy))
    write_atomically(path, text.getvalue().encode("utf-8", "backslashreplace"))


def fix(args: argparse.Namespace, examined: Examined, faults: Sequence[Fault], say: Callable[[str], None]) -> None:
    """Write the fixed copy, and say what was fixed and what is left."""
    missing = sum(fault.kind is MISSING_PICTURE for fault in faults)
    if 2 * missing > len(examined.columns.image_ids):
        raise UserError(
            f"{args.images}: has not even half of the pictures ({missing} of {len(examined.columns.image_ids)} are "
            "missing), so nothing is written; check --images, or --ignore missing-picture."
        )
    sizes = None if examined.pictures is None else sizes_of(examined.pictures)
    content, fixed, left = repair(examined.contents, examined.columns, faults, sizes)
    write_atomically(args.fix, json.dumps(content).encode())
    say(f"\nfixed ({len(fixed)}):" if fixed else "\nfixed: nothing")
    for fault in fixed:
        say(f"  - {fault.kind.name}: {fault}")
    if left:
        counts = ", ".join(f"{len(of_kind)} {kind.name}" for kind, of_kind in by_kind(left).items())
        say(f"left to you, because they need a decision: {counts}")
    say(f"wrote {args.fix}: {len(content['images'])} images, {len(content['annotations'])} annotations")
