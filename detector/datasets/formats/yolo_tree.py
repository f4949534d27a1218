"""The pictures of a YOLO tree, and the text file that belongs to each."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from detector.datasets.formats.picture_list import is_picture_list, read_picture_list
from detector.datasets.formats.yolo_splits import folder_of, named_split, split_places
from detector.datasets.pictures.folders import by_stem, list_files, list_pictures, unread_files
from detector.errors import UserError

_NO_LABELS = ("classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt")


@dataclass(frozen=True)
class Tree:
    """What lies in a YOLO tree.

    texts: the text file of each picture, whether or not it is there; pictures are named by their paths below the folder
    of pictures, in the order of their names, or of the list. strays: text files that belong to no picture, below their
    folder. unread: a line for each kind of file among the pictures that is not read.
    """

    texts: dict[str, Path]
    strays: list[str]
    unread: list[str]


def read_trees(source: Path, images: Path) -> Tree:
    """The pictures and text files that a source means; see `yolo_contents`.

    The folders and lists of a split in several places are joined in their order.

    Raises:
        UserError: there is no such tree, two pictures would share a text file, a picture is in two places or outside of
            `images`, a place has none, or no picture has a text file.
    """
    named = named_split(source)
    if named is None:
        tree = _read_tree(source, images, labels_folder(source, images), by_path=not source.is_dir())
    else:
        tree = _join(source, images, split_places(*named))
    if tree.texts and not any(path.is_file() for path in tree.texts.values()):
        first, text = next(iter(tree.texts.items()))
        if not source.is_dir():  # then it is where it should be, rather than where it was looked for last
            text = (_replaced(images / first) or text).with_suffix(".txt")
        raise UserError(
            f"{text.parent}: none of the {len(tree.texts)} pictures in {images} has a text file here; that of {first} "
            f"would be {text}. Give them the same folders and names."
        )
    return tree


def labels_folder(source: Path, images: Path) -> Path:
    """Where the text files lie, for the two paths that `yolo_contents` takes."""
    if source.is_dir():
        return source
    beside = source.parent / "labels"
    return _parallel(images) or (beside if beside.is_dir() else images)


def _join(source: Path, images: Path, places: list[Path]) -> Tree:
    texts: dict[str, Path] = {}
    strays: dict[str, None] = {}
    unread: dict[str, None] = {}
    owners: dict[str, Path] = {}
    root = os.path.abspath(images)
    for place in places:
        folder = folder_of(place, source)
        tree = _read_tree(place, folder, _parallel(folder) or folder, by_path=True)
        if not tree.texts:
            raise UserError(f"{source}: {place} has no pictures. Correct its path, or take it out.")
        for name, text in tree.texts.items():
            path = os.path.normpath(os.path.join(os.path.abspath(folder), name))
            below = os.path.relpath(path, root).replace(os.sep, "/")
            if below.startswith("../"):
                raise UserError(f"{source}: {path} is not in {images}; give a folder that is around all its places.")
            if below in owners:
                both = f"twice in {place}" if owners[below] == place else f"both in {owners[below]} and in {place}"
                raise UserError(f"{source}: {path} is {both}. Take it, or the place, out of one of them.")
            owners[below] = place
            texts[below] = text
        strays |= dict.fromkeys(tree.strays)
        unread |= dict.fromkeys(tree.unread)
    return Tree(texts, list(strays), list(unread))


def _read_tree(source: Path, images: Path, labels: Path, by_path: bool) -> Tree:
    """The pictures of one folder, or those that a list names in it.

    Args:
        source: the list of pictures; anything else stands for all pictures of the folder.
        labels: the folder of text files.
        by_path: as for ultralytics, the text files of pictures in a folder `images` lie in the folder `labels` beside
            it, where there is one; else all of them lie in `labels`.
    """
    listed = read_picture_list(source, images) if is_picture_list(source) else None
    every = list_pictures(images)
    by_stem(every)  # refuses two pictures of one text file
    stems = _stems_of_texts(images, every if listed is None else [*every, *listed], labels, by_path)
    folders = [labels, *dict.fromkeys(folder for folder, _ in stems.values() if folder != labels)]
    there: dict[str, tuple[Path, str]] = {}  # path without suffix -> folder, and path below it
    for folder in (folder for folder in folders if folder.is_dir()):
        for text in sorted(list_files(folder, (".txt",))):  # capitals first: of .TXT and .txt the second one counts
            there[f"{folder}/{PurePosixPath(text).with_suffix('')}"] = folder, text
    texts: dict[str, Path] = {}
    for name in every if listed is None else listed:
        folder, stem = stems[name]
        texts[name] = Path(*there.get(f"{folder}/{stem}", (folder, f"{stem}.txt")))
    owned = {f"{folder}/{stem}" for folder, stem in stems.values()}
    strays = [
        text
        for stem, (folder, text) in there.items()
        if stem not in owned and not _is_no_label(text) and (folder / text).resolve() != source.resolve()
    ]
    return Tree(texts, strays, unread_files(images) if listed is None else [])


def _stems_of_texts(images: Path, pictures: list[str], labels: Path, by_path: bool) -> dict[str, tuple[Path, str]]:
    """The folder of each picture's text file, and the file's path below it without its suffix; see `_read_tree`."""
    parallels: dict[str, Path | None] = {}
    stems: dict[str, tuple[Path, str]] = {}
    for name in pictures:
        stem = str(PurePosixPath(name).with_suffix(""))
        before, mark, after = f"/{stem}".rpartition("/images/") if by_path else ("", "", "")
        if mark and before not in parallels:
            parallels[before] = _parallel(images / before.lstrip("/") / "images")
        inner = parallels[before] if mark else None
        stems[name] = (labels, stem) if inner is None else (inner, after)
    return stems


def _parallel(images: Path) -> Path | None:
    """The folder whose path has `labels` in the place of the last `images`; None where there is none."""
    parallel = _replaced(images)
    return parallel if parallel is not None and parallel.is_dir() else None


def _replaced(path: Path) -> Path | None:
    """A path with `labels` in the place of its last folder `images`; None where it has none."""
    parts = path.parts
    if "images" not in parts:
        return None
    last = len(parts) - 1 - parts[::-1].index("images")
    return Path(*parts[:last], "labels", *parts[last + 1 :])


def _is_no_label(name: str) -> bool:
    last = PurePosixPath(name).name
    return last in _NO_LABELS or last.lower().startswith("readme")
