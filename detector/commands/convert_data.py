"""Convert annotations among COCO JSON, Pascal VOC XML and YOLO text, and say what the new format cannot hold."""

import argparse
from pathlib import Path
from typing import Any

from detector.datasets.checks import faults as kinds
from detector.datasets.checks.annotations import check_annotations
from detector.datasets.checks.contents import Contents, required_folder
from detector.datasets.checks.examine import read_contents
from detector.datasets.checks.parsing import parse
from detector.datasets.formats.write import write_coco, write_voc, write_yolo
from detector.datasets.pictures.read import image_size
from detector.errors import UserError

FORMATS = ("coco", "voc", "yolo")
# Faults beyond unreadable entries that leave it open what is to be written.
AMBIGUOUS = (kinds.DUPLICATE_IMAGE, kinds.DUPLICATE_CATEGORY, kinds.NON_FINITE_BOX)

EXAMPLES = """examples:
  {program} VOC2012/ImageSets/Main/train.txt train.json --from voc --to coco \\
      --images VOC2012/JPEGImages
  {program} train/labels train.json --from yolo --to coco --images train/images
  {program} instances_val2017.json yolo --from coco --to yolo --images val2017
      yolo/data.yaml and yolo/labels; the pictures belong into yolo/images
  {program} instances_val2017.json voc --from coco --to voc
      voc/Annotations and voc/ImageSets/Main/instances_val2017.txt; the pictures belong into voc/JPEGImages

Boxes are carried over as they are, decimals included; what the new format cannot hold is listed. Pictures stay where
they are; --images is needed from yolo and where sizes are not stated, and from voc it finds pictures by XML names."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument(
        "input",
        metavar="IN",
        type=Path,
        help="COCO's JSON; VOC's folder of XML files or list of names; YOLO's data.yaml or labels folder",
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
    contents = read_contents(args.source, args.input, args.images, keep_masks=True)
    if not contents.images:
        raise UserError(f"{contents.source}: lists no images; check that it is the right file or folder.")
    refuse_faults(contents)
    add_sizes(contents, args.images, required=args.target != "coco")
    losses = write(args, contents.content)
    counts = ", ".join(f"{len(contents.content[table])} {table}" for table in ("images", "annotations", "categories"))
    print(f"wrote {args.output}: {counts}")
    for loss in losses:
        print(f"  {args.target} cannot hold {loss}")
    return 0


def check_output(args: argparse.Namespace) -> None:
    """Raise UserError before any work where the output cannot be meant."""
    if args.target == "coco" and args.output.suffix != ".json":
        raise UserError(f"{args.output}: --to coco writes a file whose name ends with .json.")
    if args.output.resolve() == args.input.resolve():
        raise UserError(f"{args.output}: the output would overwrite the input; choose another name.")


def refuse_faults(contents: Contents) -> None:
    """Raise UserError where something could not be read, or could be meant in two ways."""
    columns, found = parse(contents)
    found += [fault for fault in check_annotations(columns) if fault.kind in AMBIGUOUS]
    if found:
        raise UserError(
            f"{contents.source}: {found[0].kind.meaning} ({found[0]}), fault 1 of {len(found)}; faster-rcnn check-data "
            "lists them and mends those that need no decision."
        )


def add_sizes(contents: Contents, images: Path | None, required: bool) -> None:
    """Read the sizes that the annotations do not state from the headers of the pictures."""
    for image in contents.images:
        if image.get("height") is not None and image.get("width") is not None:
            continue
        if images is not None:
            image["height"], image["width"] = image_size(images / image["file_name"])
        elif required:
            raise UserError(f"{contents.source}: does not state the size of {image['file_name']}; give --images.")


def write(args: argparse.Namespace, content: dict[str, Any]) -> list[str]:
    """Write the output; returns what it cannot hold."""
    if args.target == "coco":
        return write_coco(args.output, content)
    if args.target == "voc":
        return write_voc(args.output, content, args.input.stem or "all")
    return write_yolo(args.output, content)
