"""Convert annotations among COCO JSON, Pascal VOC XML and YOLO text, and say what the new format cannot hold."""

import argparse
from pathlib import Path
from typing import Any

from detector.datasets.checks.repair import repair
from detector.datasets.fault_kinds import (
    BACKSLASHES,
    BAD_AREA,
    BAD_FILE_NAME,
    BAD_SIZE,
    BOX_FROM_MASK,
    STOPS_SCORING,
    SWAPPED_CORNERS,
)
from detector.datasets.faults import refuse
from detector.datasets.formats.contents import Contents, count_ignored, required_folder
from detector.datasets.formats.open_dataset import read_contents
from detector.datasets.formats.parsing import parse
from detector.datasets.formats.write import is_difficult, write_coco, write_voc, write_yolo
from detector.datasets.pictures.read import image_size
from detector.errors import UserError

FORMATS = ("coco", "voc", "yolo")
# Kinds of fault that are written as reading takes them, and reported.
CORRECTED = (BACKSLASHES, BAD_AREA, BOX_FROM_MASK, SWAPPED_CORNERS)

EXAMPLES = """examples:
  {program} VOC2012/ImageSets/Main/train.txt train.json --from voc --to coco \\
      --images VOC2012/JPEGImages
  {program} train/labels train.json --from yolo --to coco --images train/images
  {program} instances_val2017.json yolo --from coco --to yolo --images val2017
      yolo/data.yaml and yolo/labels; the pictures go into yolo/images
  {program} instances_val2017.json voc --from coco --to voc
      voc/Annotations and voc/ImageSets/Main/instances_val2017.txt; the pictures go into voc/JPEGImages

Boxes are carried over as they are, decimals included; what the new format cannot hold is listed. Pictures stay where
they are; --images is needed from yolo and where sizes are not stated, and from voc it finds pictures by XML names."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument(
        "input",
        metavar="IN",
        type=Path,
        help="COCO's JSON; VOC's folder of XML files or list of names; YOLO's data.yaml, a split of it "
        "(data.yaml#train) or labels folder",
    )
    parser.add_argument("output", metavar="OUT", type=Path, help="the JSON file, or a new folder for voc and yolo")
    parser.add_argument("--from", dest="source", choices=FORMATS, required=True, help="format of IN")
    parser.add_argument("--to", dest="target", choices=FORMATS, required=True, help="format of OUT")
    parser.add_argument("--images", type=Path, help="folder of the pictures")


def run(args: argparse.Namespace) -> int:
    """Read, convert and write, and print what the new format cannot hold."""
    check_output(args)
    print(f"annotations {args.input} ({args.source})\noutput      {args.output} ({args.target})", flush=True)
    if args.images is not None:
        required_folder(args.images, "")
    contents = read_contents(args.source, args.input, args.images, masks="keep")
    content, corrected = correct(contents)
    if not content["images"]:
        raise UserError(f"{contents.source}: lists no images; check that it is the right file or folder.")
    corrected += add_sizes(content, contents.source, args.images, required=args.target != "coco")
    losses = write(args, content)
    counts = ", ".join(f"{len(content[table])} {table}" for table in ("images", "annotations", "categories"))
    print(f"wrote {args.output}: {counts}")
    for line in corrected:
        print(f"  corrected {line}")
    if args.target == "coco" and (difficult := sum(map(is_difficult, content["annotations"]))):
        print(f"  {count_ignored(difficult, 'voc')}: iscrowd 1 and difficult 1 here")
    for loss in losses:
        print(f"  {args.target} cannot hold {loss}")
    return 0


def check_output(args: argparse.Namespace) -> None:
    """Raise UserError before any work where the output cannot be meant."""
    if args.target == "coco" and args.output.suffix != ".json":
        raise UserError(f"{args.output}: --to coco writes a file whose name ends with .json.")
    if args.output.resolve() == args.input.resolve():
        raise UserError(f"{args.output}: the output would overwrite the input; choose another name.")


def correct(contents: Contents) -> tuple[dict[str, Any], list[str]]:
    """The contents as they are read, and a line for everything in them that was read otherwise than it stands.

    Raises:
        UserError: something cannot be read, or could be meant in two ways.
    """
    columns, faults = parse(contents)
    refuse(faults, STOPS_SCORING | {BAD_FILE_NAME, BAD_SIZE}, contents.source)
    content, corrected, _ = repair(contents, columns, [f for f in faults if f.kind in CORRECTED], None)
    return content, [f"{fault.kind.name}: {fault}" for fault in corrected]


def add_sizes(content: dict[str, Any], source: str, images: Path | None, required: bool) -> list[str]:
    """Take the sizes from the headers of the pictures, where they are at hand; a line for each that was stated wrong.

    Boxes are fractions of these sizes in some formats, so a wrong one would move them all.
    """
    lines = []
    for image in content["images"]:
        stated = (image.get("height"), image.get("width"))
        if images is None:
            if required and None in stated:
                raise UserError(f"{source}: does not state the size of {image['file_name']}; give --images.")
            continue
        size = image_size(images / image["file_name"])
        image["height"], image["width"] = size
        if None not in stated and stated != size:
            lines.append(
                f"size of {image['file_name']}: stated {stated[1]}x{stated[0]}, the upright picture has "
                f"{size[1]}x{size[0]}"
            )
    return lines


def write(args: argparse.Namespace, content: dict[str, Any]) -> list[str]:
    """Write the output; returns what it cannot hold."""
    if args.target == "coco":
        return write_coco(args.output, content)
    if args.target == "voc":
        return write_voc(args.output, content, args.input.stem or "all")
    return write_yolo(args.output, content)
