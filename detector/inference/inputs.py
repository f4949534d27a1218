"""From the words of a command line to pictures on disk, and from those to names for what is written about them."""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from detector.errors import UserError

PICTURE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".pbm", ".pgm", ".ppm")
)


@dataclass(frozen=True)
class Input:
    """A picture to read.

    relative: its name below the folder it was found through, with forward slashes. name: what it is called in tables
    and results: the same, or the path as given where two pictures would share it.
    """

    path: Path
    relative: str
    name: str


def find_inputs(words: Sequence[str], skip: Path) -> tuple[list[Input], list[str]]:
    """The pictures that files, folders and glob patterns stand for.

    Args:
        words: a file stands for itself, whatever its suffix; a folder for the pictures in it and below it, by suffix,
            in the order of their names, without hidden ones; a pattern (`**` crosses folders) for what it matches.
        skip: a folder whose pictures are left alone when they are found through a folder above it (the output).

    Returns:
        Inputs, each file once; and a sentence for every word that stands for nothing.

    Raises:
        UserError: there is no picture at all.
    """
    inputs: dict[Path, Input] = {}
    unused: list[str] = []
    for word in words:
        path = Path(word).expanduser()
        if path.exists():
            found = _expand(path, skip)
            problem = f"{word}: this folder holds no pictures ({', '.join(sorted(PICTURE_SUFFIXES))})."
        else:
            matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
            # A folder that `**` matches is covered by the files in it that `**` matches too.
            found = [one for match in matches if match.is_file() for one in _expand(match, skip)]
            if not found:
                found = [one for match in matches for one in _expand(match, skip)]
            problem = f"{word}: there is no such file, folder or match; check the path."
        if not found:
            unused.append(problem)
        for one in found:
            inputs.setdefault(one.path.resolve(), one)
    if not inputs:
        raise UserError(" ".join(unused) or "no picture is given; name pictures, folders or patterns.")
    shared = {name for name, count in Counter(one.relative for one in inputs.values()).items() if count > 1}
    named = [replace(one, name=one.path.as_posix()) if one.relative in shared else one for one in inputs.values()]
    return named, unused


def name_outputs(inputs: Sequence[Input], folder: Path) -> list[Path]:
    """One file inside `folder` for each input: its name, as .png unless it is a .jpg; `-2`, `-3` … where names meet.

    Raises:
        UserError: an output would take the place of an input.
    """
    sources = {one.path.resolve() for one in inputs}
    taken: set[str] = set()
    outputs = []
    for one in inputs:
        name = Path(one.relative)
        if name.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            name = name.with_suffix(".png")
        candidate, number = name, 1
        while str(candidate).casefold() in taken:  # some file systems do not tell A.jpg from a.jpg
            number += 1
            candidate = name.with_name(f"{name.stem}-{number}{name.suffix}")
        taken.add(str(candidate).casefold())
        output = folder / candidate
        if output.resolve() in sources:
            raise UserError(f"{output}: the annotated picture would replace its input; choose another --output folder.")
        outputs.append(output)
    return outputs


def _expand(path: Path, skip: Path) -> list[Input]:
    if not path.is_dir():
        return [Input(path, path.name, path.name)]
    found = []
    for folder, subfolders, files in os.walk(path):
        if Path(folder).resolve() == skip.resolve() and path.resolve() != skip.resolve():
            subfolders.clear()
            continue
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in PICTURE_SUFFIXES and not name.startswith("."):
                file = Path(folder) / name
                relative = file.relative_to(path).as_posix()
                found.append(Input(file, relative, relative))
    return found
