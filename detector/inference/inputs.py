"""From the words of a command line to pictures on disk, and from those to names for what is written about them."""

import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from detector.datasets.pictures.folders import walk
from detector.datasets.pictures.suffixes import picture_suffixes
from detector.datasets.pictures.video_content import holds_video
from detector.errors import UserError
from detector.inference.video.frames import is_camera, is_video
from detector.printing import printable

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+://|data:)", re.IGNORECASE)
MOST_BYTES = 200  # of the stem of an output's name: systems take 255, and the names at which files begin are longer


@dataclass(frozen=True)
class Input:
    """A picture to read.

    relative: its path relative to the folder that was named, with forward slashes. name: what it is called in tables
    and results: the same, or the path as given where two pictures would share it.
    """

    path: Path
    relative: str
    name: str


class VideoOutput(NamedTuple):
    """What is written about a video: a line of JSON for each frame, and the annotated copy."""

    lines: Path
    annotated: Path


def split_videos(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words that stand for pictures, and the videos: cameras, files, and what patterns match.

    A file is a video by its suffix or, where that is no picture's either, by its content. A pattern that matches a
    video is replaced by the files that it matches.
    """
    pictures: list[str] = []
    videos: list[str] = []
    for word in words:
        path = _expanded(word)
        matches = [] if is_camera(word) or os.path.lexists(path) else [str(match) for match in _matches(path)]
        matched = any(map(_stands_for_video, matches))
        for one in matches if matched else [word]:
            if _stands_for_video(one):
                videos.append(str(_expanded(one)))
            else:
                pictures.append(one)
    return pictures, videos


def find_inputs(words: Sequence[str], skip: Path, missed: Sequence[str] = ()) -> tuple[list[Input], list[str]]:
    """The pictures that files, folders and glob patterns stand for.

    Args:
        words: a file stands for itself, whatever its suffix; a folder for the pictures in it and below it, by suffix,
            in the order of their names, without hidden ones; a pattern (`**` crosses folders) for what it matches.
        skip: a folder whose pictures are left alone when a folder above it is searched (the output folder).
        missed: sentences about other words that are known to stand for nothing.

    Returns:
        Inputs, each file once; and a sentence for every word that matches no picture, those of `missed` first.

    Raises:
        UserError: there is no picture at all.
    """
    inputs: dict[Path, Input] = {}
    unused = list(missed)
    for word in words:
        if not word:
            unused.append("'': an empty word names nothing; is a variable of the shell not set?")
            continue
        path = _expanded(word)
        starts = [path] if os.path.exists(path) else _matches(path)
        pictures = [one for start in starts for one in _expand(start, skip)]
        if not pictures:
            unused.append(f"{printable(word, 500)}: {_why_unused(word, path, starts)}")
        for one in pictures:
            inputs.setdefault(one.path.resolve(), one)
    if not inputs:
        raise UserError(" ".join(unused) or "no picture is given; name pictures, folders or patterns.")
    shared = {name for name, count in Counter(one.relative for one in inputs.values()).items() if count > 1}
    named = [replace(one, name=one.path.as_posix()) if one.relative in shared else one for one in inputs.values()]
    return named, unused


def name_outputs(inputs: Sequence[Input], folder: Path) -> list[Path]:
    """One file inside `folder` for each input: its name, as .png unless it is a .jpg; `-2`, `-3` … where names meet.

    A very long name is cut, for there must be room for the name under which a file is written at first.

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
        name = name.with_name(_short(name.stem) + name.suffix)
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


def name_videos(videos: Sequence[str], folder: Path) -> list[VideoOutput]:
    """Files inside `folder` for each video, by its name; `-2`, `-3` … where two without their suffix meet.

    Raises:
        UserError: an output would take the place of an input.
    """
    sources = {Path(video).resolve() for video in videos}
    taken: set[str] = set()
    outputs = []
    for video in videos:
        name = Path(video.replace(":", "-") if is_camera(video) else video)
        stem = candidate = _short(name.stem)
        number = 1
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{stem}-{number}"
        taken.add(candidate.casefold())
        annotated = folder / f"{candidate}.annotated.mp4"
        if annotated.resolve() in sources:
            raise UserError(f"{annotated}: the annotated video would replace an input; choose another --output folder.")
        outputs.append(VideoOutput(folder / f"{candidate}{name.suffix}.jsonl", annotated))
    return outputs


def _short(stem: str) -> str:
    """A stem, cut where it is very long; its end stays, in which the names of one set differ."""
    return stem if len(os.fsencode(stem)) <= MOST_BYTES else stem[-MOST_BYTES // 4 :]


def _stands_for_video(word: str) -> bool:
    """Whether a word is a camera or the file of a video."""
    path = _expanded(word)
    if is_video(word):
        return is_camera(word) or not path.is_dir()
    return not word.lower().endswith(picture_suffixes()) and holds_video(path)


def _expanded(word: str) -> Path:
    """A word as a path; `~` is the home folder, where there is such a user."""
    return Path(os.path.expanduser(word))


def _why_unused(word: str, path: Path, starts: Sequence[Path]) -> str:
    """Why a word stands for no picture."""
    if address := _ADDRESS.match(word):
        return f"{address[1]} addresses are not read; give a file's path, an http or https address, or camera:0."
    if word.lower().startswith("camera:"):
        return "cameras are camera:0, camera:1 and so on."
    if starts:
        videos = next((file for start in starts for file in walk(start) if is_video(file)), None)
        holds = f"this folder holds no pictures ({', '.join(picture_suffixes())})"
        return f"{holds}." if videos is None else f"{holds}, but videos; name these, as '{path}/*{videos.suffix}'."
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        return f"cannot be read ({error.strerror}); check the path."
    return "there is no such file, folder or match; check the path."


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
