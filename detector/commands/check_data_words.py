"""The words of `check-data`: which go together, and whether what they name is there."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from detector.commands.label_check import DEFAULT_FOLDER
from detector.datasets.formats.contents import Format, required_folder
from detector.datasets.formats.yolo_splits import is_there
from detector.errors import UserError
from detector.inference.asked import check_asked


def check_arguments(args: argparse.Namespace) -> None:
    """Raise UserError for words that do not go together, and for what is not there, before anything takes time."""
    if args.weights is not None:
        check_asked([args.weights])
    for path in (args.against, args.other_images):
        if path is not None and not is_there(path):
            raise UserError(f"{path}: cannot read the other split (no such file or folder); check the path.")
    for path, option in ((args.report, "--report"), (args.fix, "--fix")):
        if path is not None and path.is_dir():
            raise UserError(f"{path}: is a folder; {option} writes a file.")
    if args.sheet is not None and args.sheet.exists() and not args.sheet.is_dir():
        raise UserError(f"{args.sheet}: is a file; --sheet names a folder.")
    if args.sheet is not None and args.no_images:
        raise UserError("--sheet shows pictures, which --no-images leaves closed; give one of them.")
    if is_folder_word(args):
        if args.images is not None or args.against is not None:
            raise UserError(
                "data=FOLDER says where all splits and their pictures are; leave out --images and --against."
            )
        if args.fix is not None:
            raise UserError("--fix takes one annotation file; give it, and --images, in the place of data=FOLDER.")
        return
    if args.images is None and not args.no_images:
        whole = f" A whole set is given as data={args.annotations}." if args.annotations.is_dir() else ""
        alone = "--no-images to check the annotations alone"
        raise UserError(f"give the folder of the pictures with --images, or {alone}.{whole}")
    if args.images is not None:
        required_folder(args.images, "")
    if args.fix is not None and args.fix.suffix != ".json":
        raise UserError(f"{args.fix}: --fix writes a COCO file, whose name ends with .json.")
    if args.fix is not None and args.fix.resolve() == args.annotations.resolve():
        raise UserError(f"{args.fix}: --fix would overwrite the annotations; choose another name.")


def check_sheets_place(args: argparse.Namespace, data_format: Format, folders: Sequence[Path]) -> None:
    """Raise UserError where sheets would lie among YOLO's pictures, which are all that is in a folder.

    Args:
        folders: of the pictures of all splits.
    """
    if data_format != "yolo" or (args.sheet is None and args.weights is None):
        return
    sheets: Path = args.sheet or DEFAULT_FOLDER
    for folder in folders:
        if sheets.resolve().is_relative_to(folder.resolve()):
            raise UserError(
                f"{sheets}: lies in {folder}, where the sheets would be pictures without labels from then on; choose "
                "another folder with --sheet."
            )


def is_folder_word(args: argparse.Namespace) -> bool:
    """Whether the annotations are given as `data=FOLDER`."""
    return str(args.annotations).startswith("data=")
