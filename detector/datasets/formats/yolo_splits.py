"""The splits that a data set's YAML file names: folders and lists of pictures, one or several each.

A split is given like a file of annotations, as `data.yaml#train`.
"""

import os
from pathlib import Path

import yaml

from detector.datasets.formats.picture_list import list_folder
from detector.datasets.formats.text_files import read_text
from detector.errors import UserError, shown

_KEYS = {"path": "path", "train": "train", "val": "val", "valid": "val", "test": "test"}

Entries = dict[str, list[str]]


def read_splits(path: Path) -> Entries | None:
    """The places of the splits that a data set's YAML file names, as it spells them, and its `path`.

    None for another YAML file. One with class names and no splits has an empty mapping.

    Raises:
        UserError: a place is a list or mapping, not a path.
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
    splits: Entries = {}
    for key, split in _KEYS.items():
        value = entries.get(key)
        nodes = value.value if isinstance(value, yaml.SequenceNode) else [] if value is None else [value]
        if not all(isinstance(place, yaml.ScalarNode) for place in nodes):
            raise UserError(
                f"{path}: its {key} has an entry that is no path; write a folder, a list of pictures (.txt), or "
                "several of them in one list."
            )
        words = [word for place in nodes if (word := place.value.strip()) not in ("", "~", "null")]
        if words:
            splits.setdefault(split, words)
    return splits


def named_split(source: Path) -> tuple[Path, str] | None:
    """The YAML file and the split that `data.yaml#train` means; None for any other path."""
    name, mark, split = source.name.rpartition("#")
    file = source.with_name(name) if name else source
    if not mark or split not in _KEYS or split == "path" or source.exists() or not file.is_file():
        return None
    return (file, _KEYS[split]) if name.lower().endswith((".yaml", ".yml")) else None


def is_there(source: str | Path) -> bool:
    """Whether a path leads to a file or folder of annotations, or names the split of a YAML file."""
    return Path(source).exists() or named_split(Path(source)) is not None


def split_places(path: Path, split: str) -> list[Path]:
    """The folders and lists of pictures of one split of a YAML file, in its order.

    Raises:
        UserError: the file names no such split, or a place that is not there.
    """
    entries = read_splits(path)
    if entries is None:
        raise UserError(f"{path}: is not a data set's YAML file, which has names and the folders train and val.")
    if split not in entries:
        raise UserError(f"{path}: names no {split} split; write {split}: FOLDER, relative to the file, into it.")
    places = find_places(path, entries, split)
    for place, word in zip(places, entries[split], strict=True):
        if place is None:
            raise UserError(f"{path}: {shown(word)}, of its {split} split, is not there. Correct its path.")
    return [place for place in places if place is not None]


def find_places(path: Path, entries: Entries, split: str) -> list[Path | None]:
    """Where each folder or list of a split is, or None for those that are not there.

    `path`, where the file has one, starts at the file's folder, the current one or at the root; where nothing is there,
    as on another machine than the author's, the file's own folder is taken. Roboflow writes `../train/images` for the
    folder `train/images` beside the file; that is taken where the other is not there.
    """
    return [_place(path, entries.get("path", [""])[0], word) for word in entries[split]]


def picture_folders(annotations: Path, images: Path) -> list[Path]:
    """The folders that hold the pictures of a split, given as `yolo_contents` takes it. Raises UserError as it does."""
    named = named_split(annotations)
    return [images] if named is None else [folder_of(place, annotations) for place in split_places(*named)]


def folder_of(place: Path, source: Path) -> Path:
    """The folder of a split's place: itself, or that around the pictures of a list.

    Args:
        source: what names the place, for messages.

    Raises:
        UserError: a list is empty, or its first picture is not there.
    """
    return list_folder(place, source) if place.is_file() else place


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
