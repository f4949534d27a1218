"""The YAML file of an ultralytics or Roboflow tree: the folders or lists of its splits."""

import os
from pathlib import Path

from detector.datasets.formats.class_names import read_classes
from detector.datasets.formats.text_files import read_text
from detector.datasets.formats.yolo_splits import Entries, find_places, folder_of, read_splits, split_places
from detector.datasets.formats.yolo_tree import labels_folder
from detector.datasets.layouts.layout import SPLITS, Layout, Split
from detector.datasets.layouts.names import files_of, named_folders
from detector.datasets.layouts.yolo_lists import list_split
from detector.datasets.pictures.suffixes import picture_suffixes
from detector.errors import UserError, shown


def yaml_layout(path: Path, source: Path) -> Layout:
    """The splits of a data set's YAML file, found as `find_places` finds them.

    A split in several folders or lists is the file's own split, `data.yaml#train`, with the folder around them all.

    Raises:
        UserError: the file names no split, none that is there, one of which a part is not there, or two that lead to
            one place by different paths.
    """
    entries = read_splits(path)
    if entries is None:
        read_classes(path, lists=True)  # says what is wrong with its text or its names
        raise UserError(f"{path}: is not a data set's YAML file, which has names and the folders train and val.")
    named = [split for split in SPLITS if split in entries]
    if not named:
        raise UserError(f"{path}: names no split; write train: FOLDER, relative to the file, into it, or val: FOLDER.")
    there: dict[str, list[Path]] = {}
    splits: dict[str, Split] = {}
    lost: dict[str, str] = {}
    notes: list[str] = []
    for split in named:
        if not any(find_places(path, entries, split)):
            place = shown(entries[split][0])
            lost[split] = f"{path}: its {split} split, {place}, is not there. Correct its path."
            notes.append(f"the {split} split of {path}, {place}, is not there, and not used.")
            continue
        try:
            there[split] = split_places(path, split)
            splits[split] = _split(path, split, there[split], source)
        except UserError as error:
            if split != "test" or split not in there:
                raise
            notes.append(f"the test split of {path} is not used: {error}")  # COCO's lists come without its pictures
    _refuse_one_place_of_two(path, entries, there)
    if not splits:
        raise UserError(next(iter(lost.values())))
    if any(place.is_file() for places in there.values() for place in places):
        # Beside a list the file says nothing of a folder's labels, so they are named themselves.
        splits = {
            split: Split(labels_folder(path, place.images), place.images) if place.annotations == path else place
            for split, place in splits.items()
        }
    notes += [
        f"the {split} split is {len(places)} places, joined: {', '.join(entries[split])}"
        for split, places in there.items()
        if split in splits and len(places) > 1
    ]
    roboflow = (path.parent / "README.roboflow.txt").is_file() or "roboflow" in read_text(path)
    return Layout(
        source,
        "Roboflow export, YOLO" if roboflow else "YOLO",
        "yolo",
        splits,
        tuple(notes),
        lost.get("train", ""),
        f"Write train: FOLDER, relative to the file, into {'it' if path == source else path}.",
    )


def _refuse_one_place_of_two(path: Path, entries: Entries, there: dict[str, list[Path]]) -> None:
    """Raise UserError where two splits lead to one place by different paths.

    Paths of another machine lose their first folders until something is there, which may be the same for both. One that
    is written twice alike is meant.
    """
    owners: dict[Path, tuple[str, str]] = {}
    for split, places in there.items():
        for place, word in zip(places, entries[split], strict=True):
            other, its_word = owners.setdefault(place, (split, word))
            if other != split and its_word != word:
                raise UserError(
                    f"{path}: its {other} split, {shown(its_word)}, and its {split} split, {shown(word)}, both lead to "
                    f"{place} alone. Correct their paths."
                )


def _split(path: Path, split: str, places: list[Path], source: Path) -> Split:
    if len(places) > 1:
        folders = [folder_of(place, source) for place in places]
        return Split(path.with_name(f"{path.name}#{split}"), Path(os.path.commonpath(folders)))
    return list_split(places[0], source) if places[0].is_file() else _folder_split(path, places[0])


def _folder_split(path: Path, folder: Path) -> Split:
    """The pictures of a folder; their labels are found from it as `yolo_contents` does, or lie beside it."""
    images = folder
    if not files_of(folder, picture_suffixes()):
        images = next(iter(named_folders(folder, ("images",))), folder)
    parallel = path.parent / "labels" / images.name
    if "images" not in images.parts and parallel.is_dir():
        return Split(parallel, images)
    return Split(path, images)
