"""From the words of a command line to pictures on disk, and from those to names for what is written about them."""

import glob
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from detector.datasets.pictures.folders import walk
from detector.datasets.pictures.suffixes import picture_suffixes
from detector.errors import UserError


@dataclass(frozen=True)
class Input:
    """A picture to read.

    relative: its path relative to the folder that was named, with forward slashes. name: what it is called in tables
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
        skip: a folder whose pictures are left alone when a folder above it is searched (the output folder).

    Returns:
        Inputs, each file once; and a sentence for every word that matches no picture.

    Raises:
        UserError: there is no picture at all.
    """
    inputs: dict[Path, Input] = {}
    unused: list[str] = []
    for word in words:
        path = Path(word).expanduser()
        if path.exists():
            pictures = _expand(path, skip)
            problem = f"{word}: this folder holds no pictures ({', '.join(picture_suffixes())})."
        else:
            pictures = [one for match in _matches(path) for one in _expand(match, skip)]
            problem = f"{word}: there is no such file, folder or match; check the path."
        if not pictures:
            unused.append(problem)
        for one in pictures:
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
    pictures = []
    for file in walk(path, skip):
        if file.name.lower().endswith(picture_suffixes()):
            relative = file.relative_to(path).as_posix()
            pictures.append(Input(file, relative, relative))
    return pictures


def _matches(pattern: Path) -> list[Path]:
    """What a pattern matches, sorted: the files, or where it matches none the folders.

    `**` is matched by walking the folders once each: `glob` would go round and round in a link to a folder above it.
    """
    parts = pattern.parts
    if "**" not in parts:
        matches = sorted(Path(match) for match in glob.glob(str(pattern)))
        return [match for match in matches if match.is_file()] or matches
    plain = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    start = Path(*parts[:plain])
    wanted = parts[plain:]
    files = [(file, file.relative_to(start).parts) for file in walk(start)]
    matches = sorted(file for file, relative in files if _fits(relative, wanted))
    # A folder stands for the files below it.
    return matches or sorted(
        file for file, relative in files if any(_fits(relative[:depth], wanted) for depth in range(1, len(relative)))
    )


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path, in its parts, is what a pattern stands for; `**` stands for any number of parts."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[number:], pattern[1:]) for number in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])
