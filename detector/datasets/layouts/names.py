"""Names of files and folders that say which split something belongs to."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from detector.datasets.layouts.layout import ambiguous
from detector.datasets.pictures.suffixes import picture_suffixes

_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "minival": "val",
    "dev": "val",
    "eval": "val",
    "evaluation": "val",
    "test": "test",
    "testing": "test",
}
# Folders of annotations and of pictures, in small letters.
ANNOTATION_FOLDERS = ("annotations", "annotation", "labels", "xml", "xmls")
PICTURE_FOLDERS = ("images", "jpegimages", "imgs", "img", "pictures", "photos", "data")
_NAME = re.compile(rf"({'|'.join(_WORDS)})([-_ ](set|split|data|images?|imgs?))?[-_ 0-9]*")
_TEST_DEV = re.compile("(test)[-_]?dev", re.IGNORECASE)  # of COCO's test pictures those that are for development
_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
MOST_ENTRIES = 2000  # that a look into a folder takes


def split_of(name: str) -> str | None:
    """The split that a name speaks of: val for `instances_val2017.json`, train for `train`; None for none or several.

    `trainval` speaks of both, and so of none.
    """
    found = {_WORDS[word.lower()] for word in _PART.findall(_TEST_DEV.sub(r"\1", name)) if word.lower() in _WORDS}
    return found.pop() if len(found) == 1 else None


def without_split(name: str) -> str:
    """A name with a star where it speaks of a split, so that those of one set's splits are equal."""
    return _PART.sub(lambda word: "*" if word.group().lower() in _WORDS else word.group(), name)


def is_split_name(name: str) -> bool:
    """Whether the whole of a name is that of a split, but for digits or such: `valid`, `train2017`, `val_images`."""
    return _NAME.fullmatch(_TEST_DEV.sub(r"\1", name.lower())) is not None


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, by name; hidden ones are passed over."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []
    return [Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith(".")]


def named_folders(folder: Path, names: Sequence[str]) -> list[Path]:
    """Those folders in a folder whose name, in small letters, is one of some, in the order of these."""
    table = {path.name.lower(): path for path in subfolders(folder)}
    return [table[name] for name in names if name in table]


def split_folders(folder: Path) -> list[tuple[str, Path]]:
    """The folders in a folder that are named for splits, with their splits; two may be named for one."""
    named = [path for path in subfolders(folder) if is_split_name(path.name)]
    return [(split, path) for path in named if (split := split_of(path.name)) is not None]


def unused_folders(images: Sequence[Path]) -> list[Path]:
    """Folders of pictures beside those of a set's splits, `images`, which look as if they belonged to it.

    Where the splits' folders lie in a folder for pictures, these are all others there; else those that are named for a
    split.
    """
    parents: dict[Path, None] = {}
    for folder in images:
        named = [place for place in (folder, folder.parent) if is_split_name(place.name)]
        parents |= dict.fromkeys(place.parent for place in named[:1])
    unused = []
    for parent in parents:
        for folder in subfolders(parent):
            is_used = any(used.is_relative_to(folder) or folder.is_relative_to(used) for used in images)
            looks_so = is_split_name(folder.name) or parent.name.lower() in PICTURE_FOLDERS
            if looks_so and not is_used and has_pictures(folder):
                unused.append(folder)
    return unused


def one_of_each(folders: Sequence[tuple[str, Path]], source: Path) -> dict[str, Path]:
    """Folders by their splits. Raises UserError where two are for one split."""
    table: dict[str, Path] = {}
    for split, path in folders:
        if split in table:
            both = f"{table[split].name} and {path.name} both look like the {split} split"
            raise ambiguous(source, both, [f"rename or move {table[split]}", f"rename or move {path}"])
        table[split] = path
    return table


def files_of(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files directly in a folder with one of the suffixes (in any case), by name, of the first `MOST_ENTRIES`."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for _, entry in zip(range(MOST_ENTRIES), entries, strict=False):
                if entry.name.lower().endswith(suffixes) and not entry.name.startswith(".") and entry.is_file():
                    found.append(Path(entry.path))
    except OSError:
        return []
    return sorted(found)


def has_pictures(folder: Path, depth: int = 2) -> bool:
    """Whether there are pictures in a folder, or in folders in it."""
    if files_of(folder, picture_suffixes()):
        return True
    return depth > 0 and any(has_pictures(inner, depth - 1) for inner in subfolders(folder)[:100])
