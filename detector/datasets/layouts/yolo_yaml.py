"""The YAML file of an ultralytics or Roboflow tree: the folders or lists of its splits."""

import os
import shlex
from pathlib import Path

import yaml

from detector.datasets.formats.text_files import read_text
from detector.datasets.formats.yolo import labels_folder
from detector.datasets.layouts.layout import SPLITS, Layout, Split, ambiguous
from detector.datasets.layouts.names import files_of, named_folders
from detector.datasets.layouts.yolo_lists import list_split
from detector.datasets.pictures.folders import list_pictures
from detector.datasets.pictures.suffixes import picture_suffixes
from detector.errors import UserError, shown

Entries = dict[str, list[str]]


def read_splits(path: Path) -> Entries | None:
    """The places of the splits that a data set's YAML file names, as it spells them, and its `path`.

    None for another YAML file. One with class names and no splits has an empty mapping.
    """
    try:
        node = yaml.compose(read_text(path), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    if not isinstance(node, yaml.MappingNode):
        return None
    entries = {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}
    if not isinstance(entries.get("names"), yaml.SequenceNode | yaml.MappingNode):
        return None
    found: Entries = {}
    for key in ("path", "train", "val", "valid", "test"):
        value = entries.get(key)
        nodes = value.value if isinstance(value, yaml.SequenceNode) else [value]
        words = [n.value.strip() for n in nodes if isinstance(n, yaml.ScalarNode)]
        words = [word for word in words if word not in ("", "~", "null")]
        if words:
            found.setdefault("val" if key == "valid" else key, words)
    return found


def yaml_layout(path: Path, source: Path) -> Layout:
    """The splits of a data set's YAML file.

    `path`, where there is one, starts at the file's folder, the current one or at the root; where nothing is there, as
    on another machine than the author's, the file's own folder is taken. Roboflow writes `../train/images` for the
    folder `train/images` beside the file; that is taken where the other is not there.

    Raises:
        UserError: the file names no train split, or one that is not there.
    """
    entries = read_splits(path)
    if entries is None:
        raise UserError(f"{path}: is not a data set's YAML file, which has names and the folders train and val.")
    if "train" not in entries:
        raise UserError(f"{path}: names no train split; write train: FOLDER, relative to the file, into it.")
    splits: dict[str, Split] = {}
    notes: list[str] = []
    places: dict[Path, str] = {}
    for split in SPLITS:
        if split not in entries:
            continue
        found = _places(path, entries, split)
        other = split if found is None else places.setdefault(found, split)
        if entries[other] != entries[split]:
            raise UserError(
                f"{path}: its {other} split, {shown(entries[other][0])}, and its {split} split, "
                f"{shown(entries[split][0])}, both lead to {found} alone. Correct their paths."
            )
        if found is None and split == "train":
            raise UserError(f"{path}: its train split, {shown(entries[split][0])}, is not there. Correct its path.")
        if found is None:
            notes.append(f"the {split} split of {path}, {shown(entries[split][0])}, is not there, and not used.")
            continue
        splits[split] = list_split(found, source) if found.is_file() else _folder_split(path, found)
    if any(place.annotations != path and place.annotations.is_file() for place in splits.values()):
        # Beside a list the file says nothing of a folder's labels, so they are named themselves.
        splits = {
            split: Split(labels_folder(path, place.images), place.images) if place.annotations == path else place
            for split, place in splits.items()
        }
    roboflow = (path.parent / "README.roboflow.txt").is_file() or "roboflow" in read_text(path)
    return Layout(source, "Roboflow export, YOLO" if roboflow else "YOLO", "yolo", splits, tuple(notes))


def _places(path: Path, entries: Entries, split: str) -> Path | None:
    """The folder or list of a split; of several folders the one that holds them and nothing else."""
    found = [_place(path, entries.get("path", [""])[0], word) for word in entries[split]]
    folders = [place for place in found if place is not None]
    if len(folders) < len(found):
        return None
    if len(folders) == 1:
        return folders[0]
    above = Path(os.path.commonpath(folders))
    inside = sum(len(list_pictures(folder)) for folder in folders if folder.is_dir())
    if any(folder.is_file() for folder in folders) or inside != len(list_pictures(above)):
        raise _in_several_places(path, split, folders)
    return above


def _in_several_places(path: Path, split: str, places: list[Path]) -> UserError:
    """The refusal of a split in several folders or lists, with commands that make one list of them."""
    folders = shlex.join(str(place) for place in places if place.is_dir())
    lists = shlex.join(str(place) for place in places if place.is_file())
    target = f"{path.stem}_{split}.txt"
    commands = [f"find {folders} -type f > {target}"] if folders else []
    commands += [f"cat {lists} >{'>' if folders else ''} {target}"] if lists else []
    what = f"its {split} split is in {len(places)} places, and one is read"
    list_them = (
        f"list their pictures in one file beside it ({' && '.join(commands)}) and write {split}: {target} into it"
    )
    return ambiguous(path, what, ["put them into one folder" if folders else "put the lists into one", list_them])


def _place(path: Path, base: str, word: str) -> Path | None:
    own = path.parent
    bases = [own / base, Path.cwd() / base, own.parent / "datasets" / base, own / Path(base).name, own]
    parts = [part for part in word.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    # As it is written, and then without its first folders, for it may be a path of another machine.
    for spelled in (word, *("/".join(parts[first:]) for first in range(len(parts)))):
        for start in bases:
            place = Path(os.path.normpath(start / Path(spelled).expanduser()))
            if place.exists():
                return place
    return None


def _folder_split(path: Path, folder: Path) -> Split:
    """The pictures of a folder; their labels are found from it as `yolo_contents` does, or lie beside it."""
    images = folder
    if not files_of(folder, picture_suffixes()):
        images = next(iter(named_folders(folder, ("images",))), folder)
    parallel = path.parent / "labels" / images.name
    if "images" not in images.parts and parallel.is_dir():
        return Split(parallel, images)
    return Split(path, images)
