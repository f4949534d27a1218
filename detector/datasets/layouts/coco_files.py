"""COCO files that are looked into without being parsed: whether they are such, and where their pictures lie."""

import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path

from detector.datasets.formats.coco import TABLES
from detector.datasets.formats.text_files import UTF16, decode
from detector.datasets.layouts.layout import ambiguous
from detector.datasets.layouts.names import (
    PICTURE_FOLDERS,
    files_of,
    is_split_name,
    named_folders,
    split_of,
    subfolders,
)
from detector.errors import UserError

SUFFIXES = (".json", ".json.gz", ".coco")
_KEYS = {name: re.compile(rf'"{name}"\s*:\s*\['.encode()) for name in TABLES}
_FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')
_SAMPLE = 200  # pictures that are looked for
_MOST_BYTES = 2**32


class NoPicturesError(UserError):
    """The pictures that a file names are not there."""


def is_coco_file(path: Path) -> bool:
    """Whether a file is JSON with the lists of a COCO file of objects; captions have no categories, and COCO's panoptic
    annotations segments in the place of boxes."""
    content = _content(path)
    return not _lacking(content) and b'"segments_info"' not in content


def missing_lists(path: Path) -> list[str]:
    """Those of a COCO file's three lists that a file does not have; all of them where it is no JSON object."""
    return _lacking(_content(path))


def _lacking(content: bytes) -> list[str]:
    if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{":
        return list(TABLES)
    return [name for name, key in _KEYS.items() if not key.search(content)]


def picture_folder(path: Path, split: str | None, source: Path, root: Path) -> Path:
    """The folder that holds the pictures which a COCO file names.

    Folders named for the file's split are preferred: pictures of two splits often have the same names.

    Args:
        path: the file.
        split: that it describes; None: all pictures there are.
        source: what the user gave, for messages.
        root: the uppermost folder of the set.

    Raises:
        NoPicturesError: no folder holds them.
        UserError: several do, or the file names none.
    """
    names = _file_names(path)
    if not names:
        raise UserError(
            f"{path}: its images have no file_name. Check that it is the right file, or write them (LVIS's files have "
            "only coco_url, whose last part is the name)."
        )
    best: list[Path] = []
    most = 0
    for folders in _places(path, split, root):
        counts = {folder: sum((folder / name).is_file() for name in names) for folder in folders}
        top = max(counts.values(), default=0)
        if top > most:
            most, best = top, [folder for folder, count in counts.items() if count == top]
    if not best:
        raise NoPicturesError(
            _not_found(path, names[0], [folder for level in _places(path, split, root) for folder in level])
        )
    if len(best) > 1:
        which = split or "train"
        choices = [f"data.{which}_annotations={path} data.{which}_images={folder}" for folder in best]
        raise ambiguous(source, f"{len(best)} folders hold pictures of the names that {path.name} lists", choices)
    return best[0]


def _not_found(path: Path, name: str, folders: Sequence[Path]) -> str:
    """The refusal of a file whose pictures, of which the first has this name, are nowhere."""
    last = name.rpartition("/")[2].lower()
    for file in [file for folder in folders for file in files_of(folder, (last,)) if file.name.lower() == last]:
        return f"{path}: names {name}, and there is {file}. Spell the names in its images as those of the files."
    looked = ", ".join(str(folder) for folder in folders[:4])
    return f"{path}: its picture {name} is in none of {looked}. Put the pictures into one of them."


def _places(path: Path, split: str | None, root: Path) -> list[list[Path]]:
    """Folders where pictures may lie, likeliest first: the file's own of its split, others of the split, its own."""
    bases = [path.parent, root, *named_folders(root, PICTURE_FOLDERS), *named_folders(path.parent, PICTURE_FOLDERS)]
    named: list[Path] = []
    if split is not None:
        of_splits = [folder for base in bases for folder in subfolders(base) if is_split_name(folder.name)]
        named = [folder for folder in of_splits if split_of(folder.name) == split]
        exact = [folder for folder in named if folder.name in path.name]  # train2017 of instances_train2017.json
        named = exact or named
        named += [inner for folder in named for inner in named_folders(folder, PICTURE_FOLDERS)]
    default = [folder / "default" for folder in bases if (folder / "default").is_dir()]  # CVAT's
    general = [*bases, *default]
    if split is None:
        general += [f for base in bases[1:] for f in subfolders(base) if is_split_name(f.name)]
    own = [path.parent]
    is_own_split = split is not None and is_split_name(path.parent.name) and split_of(path.parent.name) == split
    levels = [own if is_own_split else [], named, own, general]
    return [_distinct(level, [f for earlier in levels[:n] for f in earlier]) for n, level in enumerate(levels)]


def _distinct(folders: Sequence[Path], without: Sequence[Path]) -> list[Path]:
    seen = {folder.resolve() for folder in without}
    kept = []
    for folder in folders:
        if folder.resolve() not in seen:
            seen.add(folder.resolve())
            kept.append(folder)
    return kept


def _file_names(path: Path) -> list[str]:
    """The first names of pictures in a COCO file, with forward slashes."""
    names: list[str] = []
    for match in _FILE_NAME.finditer(_content(path)):
        try:
            name = str(json.loads(match.group(1)))
        except ValueError:
            continue
        names.append(name.replace("\\", "/"))
        if len(names) == _SAMPLE:
            break
    return [name for name in names if "\0" not in name]


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST_BYTES:
            return b""
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            with gzip.open(path) as stream:
                return stream.read(_MOST_BYTES)
        # Another encoding of JSON is read too; in UTF-8 its keys can be looked for.
        return decode(content).encode("utf-8") if content.startswith(UTF16) else content
    except (OSError, EOFError, UnicodeError):
        return b""
