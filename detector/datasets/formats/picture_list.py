"""Lists of pictures, one path a line, as darknet and YOLO write them for a split."""

import os
import posixpath
from pathlib import Path

from detector.datasets.formats.text_files import lines_of, read_text
from detector.datasets.pictures.suffixes import picture_suffixes
from detector.errors import UserError

_SUFFIXES = (".txt", ".list")
_STARTS = 3  # folders above a list at which its paths may start


def is_picture_list(source: Path) -> bool:
    """Whether a file is a list of pictures.

    Raises:
        UserError: it is a darknet `.data` file, which names several lists.
    """
    if not source.is_file():
        return False
    if source.suffix.lower() == ".data":
        raise UserError(
            f"{source}: is a darknet file that names lists of pictures; give the list itself, such as train.txt, as "
            "the annotations (class names are read from obj.names or data.yaml beside it)."
        )
    if source.suffix.lower() not in _SUFFIXES:
        return False
    lines = _lines(source)
    return bool(lines) and sum(line.lower().endswith(picture_suffixes()) for line in lines) * 2 > len(lines)


def read_picture_list(source: Path, images: Path) -> list[str]:
    """File names below `images`, in the order of the list.

    A path may start at the list's folder, at `images` or one of the folders above it, or at the root. Where nothing is
    there, as on another machine than the author's, it may lack its first folders: darknet's lists begin with `data/`.

    Raises:
        UserError: a path is twice in the list, or leads to no file below `images`.
    """
    names: dict[str, None] = {}
    root = os.path.abspath(images.as_posix())
    for line in _lines(source):
        name = _below(line.replace("\\", "/"), source, root)
        if name is None:
            raise UserError(f"{source}: lists {line}, which is not a file in {images}. Correct the path, or --images.")
        if name in names:
            raise UserError(f"{source}: lists {line} more than once. Remove the repetition.")
        names[name] = None
    return list(names)


def list_folder(path: Path, source: Path) -> Path:
    """The folder around the pictures of a list: the one named `images` above them all, where there is one.

    Args:
        source: what names the list, for messages.

    Raises:
        UserError: it is no list, it is empty, or its first picture is not there.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise UserError(f"{path}: is neither a folder nor a list of pictures (.txt); {source} names it as a split.")
    lines = [line.replace("\\", "/") for line in _lines(path)]
    if not lines:
        raise UserError(f"{path}: lists no pictures; {source} names it as a split.")
    starts = [path.parent, *path.parents[1:_STARTS]]
    for dropped, spelled in enumerate(shortened(lines[0])):
        start = next((start for start in starts if (start / spelled).is_file()), None)
        if start is not None:
            places = [os.path.normpath(start / [*shortened(line)[: dropped + 1]][-1]) for line in lines]
            folder = Path(os.path.commonpath([os.path.dirname(place) for place in places]))
            above = [parent for parent in (folder, *folder.parents) if parent.name == "images"]
            return above[0] if above else folder
    raise UserError(f"{path}: lists {lines[0]}, which is not there. Correct the paths.")


def _below(path: str, source: Path, root: str) -> str | None:
    """The path relative to the folder of pictures `root`, or None where there is no such file in it."""
    starts = [os.path.abspath(source.parent.as_posix()), root, *_parents(root, 3)]
    for spelled in shortened(path):
        for start in starts:
            whole = posixpath.normpath(posixpath.join(start, spelled))
            if whole.startswith(root.rstrip("/") + "/") and Path(whole).is_file():
                return posixpath.relpath(whole, root)
    return None


def shortened(path: str) -> list[str]:
    """A path, and then without its first folder, its first two, … but never the name alone."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return [path, *("/".join(parts[first:]) for first in range(1, len(parts) - 1))]


def _parents(folder: str, count: int) -> list[str]:
    parents = []
    for _ in range(count):
        folder = posixpath.dirname(folder)
        parents.append(folder)
    return parents


def _lines(source: Path) -> list[str]:
    return [line.strip() for line in lines_of(read_text(source, "list of pictures")) if line.strip()]
