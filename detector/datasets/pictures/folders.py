"""Pictures in folders: which there are, and which belongs to an annotation file."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from detector.datasets.pictures.made_here import drawn_in, is_run
from detector.datasets.pictures.suffixes import picture_suffixes
from detector.errors import UserError

# Files that lie beside pictures and are none.
_COMPANIONS = frozenset(
    (".txt", ".xml", ".json", ".yaml", ".yml", ".csv", ".tsv", ".md", ".cache", ".npy", ".npz", ".names")
)
_COMPANIONS |= frozenset(
    (".data", ".html", ".pdf", ".zip", ".gz", ".tar", ".py", ".ipynb", ".db", ".ini", ".log", ".lnk")
)


def walk(folder: str | Path, skip: Path | None = None) -> Iterator[Path]:
    """All regular files below a folder, by their names, folder by folder; real folders before links to folders.

    Links are followed, and each real folder is entered once, so that a link to a folder above it ends the walk there.
    Hidden files and folders (`.name`: what systems and editors leave behind) are passed over, the folders of training
    runs, and in others below what predictions and reports have drawn there (`made_here`). Folders that may not be read
    are too, as `os.walk` does.

    Args:
        skip: a folder that is passed over, unless the walk begins there.
    """
    seen: set[tuple[int, int]] = set()
    drawn: set[str] = set()
    if skip is not None and skip.is_dir() and not os.path.samefile(skip, folder):
        status = os.stat(skip)
        seen.add((status.st_dev, status.st_ino))
    for parent, folders, names in os.walk(folder, followlinks=True):
        try:
            status = os.stat(parent)
        except OSError:
            folders.clear()
            continue
        key = (status.st_dev, status.st_ino)
        if key in seen:
            folders.clear()
            continue
        seen.add(key)
        if Path(parent) != Path(folder):
            if is_run((*folders, *names)):
                folders.clear()
                continue
            drawn |= drawn_in(parent, names)
        # Real folders before links to them: a file then has the name of where it lies.
        folders[:] = sorted(
            (name for name in folders if not name.startswith(".")),
            key=lambda name: (os.path.islink(os.path.join(parent, name)), name),
        )
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and os.path.join(parent, name) not in drawn and path.is_file():
                yield path


def list_files(folder: str | Path, suffixes: tuple[str, ...]) -> list[str]:
    """Files below a folder with one of the suffixes (in any case), sorted, relative to it, with forward slashes.

    Raises:
        UserError: there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"{folder}: no such folder. Check the path.")
    names = (path.relative_to(root).as_posix() for path in walk(root) if path.name.lower().endswith(suffixes))
    return sorted(names)


def list_pictures(folder: str | Path) -> list[str]:
    """The pictures below a folder, as `list_files` lists them."""
    return list_files(folder, picture_suffixes())


def unread_files(folder: str | Path) -> list[str]:
    """A line for each suffix of files below a folder that are neither read as pictures nor known to be none."""
    suffixes = Counter[str]()
    first: dict[str, str] = {}
    for path in walk(folder):
        suffix = path.suffix.lower()
        if suffix and suffix not in _COMPANIONS and suffix not in picture_suffixes():
            suffixes[suffix] += 1
            first.setdefault(suffix, path.relative_to(folder).as_posix())
    return [f"{count} × {suffix}, the first is {first[suffix]}" for suffix, count in sorted(suffixes.items())]


def by_stem(names: list[str]) -> dict[str, str]:
    """File names without their suffix → file names. Raises UserError where two differ in the suffix only."""
    table: dict[str, str] = {}
    for name in names:
        stem = str(PurePosixPath(name).with_suffix(""))
        if stem in table:
            raise UserError(f"{table[stem]} and {name} differ in their suffix only; rename or remove one of them.")
        table[stem] = name
    return table
