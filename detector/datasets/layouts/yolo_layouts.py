"""Ways to read a folder as YOLO annotations: ultralytics trees, Roboflow's exports, darknet's lists, text files beside
pictures."""

from functools import partial
from pathlib import Path

from detector.datasets.formats.class_names import find_class_file
from detector.datasets.formats.picture_list import is_picture_list
from detector.datasets.formats.text_files import lines_of, read_text
from detector.datasets.formats.yolo_splits import read_splits
from detector.datasets.layouts.layout import SPLITS, Candidate, Layout, Split
from detector.datasets.layouts.names import files_of, has_pictures, named_folders, one_of_each, split_folders, split_of
from detector.datasets.layouts.yolo_lists import darknet_layout, list_split
from detector.datasets.layouts.yolo_yaml import yaml_layout
from detector.errors import UserError

_NO_LABELS = ("classes.txt", "obj.names", "labels.txt", "requirements.txt", "license.txt")
_LOOKED_INTO = 20  # text files, until one says what they are


def yolo_candidates(folder: Path, source: Path) -> list[Candidate]:
    """The ways to read a folder's YOLO annotations: each YAML file that names splits, else the one that folders say.

    Args:
        folder: the uppermost of the set.
        source: what the user gave.

    Raises:
        UserError: two folders are named for one split.
    """
    yamls = [path for path in files_of(folder, (".yaml", ".yml")) if "train" in (read_splits(path) or {})]
    if yamls:
        return [Candidate("YOLO", "yolo", f"data={path}", partial(yaml_layout, path, source)) for path in yamls]
    data = files_of(folder, (".data",))
    if data:
        return [Candidate("darknet", "yolo", f"data={path}", partial(darknet_layout, path, source)) for path in data]
    splits = _trees(folder, source)
    if not splits:
        return []
    return [Candidate("YOLO", "yolo", f"data={source} data.format=yolo", lambda: _open(splits, source))]


def _open(splits: dict[str, Split], source: Path) -> Layout:
    labels = next(iter(splits.values())).annotations
    find_class_file(labels if labels.is_dir() else labels.parent)  # without names there is nothing to train for
    return Layout(source, "YOLO", "yolo", {split: splits[split] for split in SPLITS if split in splits})


def _trees(folder: Path, source: Path) -> dict[str, Split]:
    """Labels and pictures by split, by the names of folders or lists; empty where there are none."""
    lists = {split_of(path.stem): path for path in files_of(folder, (".txt",)) if is_picture_list(path)}
    named = {split: list_split(path, source) for split, path in lists.items() if split is not None}
    if "train" in named:
        return named
    images, labels = (next(iter(named_folders(folder, (name,))), None) for name in ("images", "labels"))
    if images is not None and labels is not None:
        with_labels = [(split, path) for split, path in split_folders(images) if _labels(labels / path.name)]
        inner = one_of_each(with_labels, source)
        if inner:
            return {split: Split(labels / path.name, path) for split, path in inner.items()}
        return {"train": Split(labels, images)} if _labels(labels) else {}
    found = [(split, path) for split, path in split_folders(folder) if _pair(path) is not None]
    splits = {split: pair for split, path in one_of_each(found, source).items() if (pair := _pair(path)) is not None}
    if splits:
        return splits
    return {"train": Split(folder, folder)} if _labels(folder) and has_pictures(folder, 0) else {}


def _pair(folder: Path) -> Split | None:
    """Labels and pictures of one split's folder: in folders of their own, or beside each other."""
    images, labels = (next(iter(named_folders(folder, (name,))), folder) for name in ("images", "labels"))
    return Split(labels, images) if _labels(labels) and has_pictures(images) else None


def _labels(folder: Path) -> bool:
    """Whether a folder has text files of boxes: the first line that is there is a class and four fractions or more."""
    for path in files_of(folder, (".txt",))[:_LOOKED_INTO]:
        if path.name.lower() in _NO_LABELS or path.name.lower().startswith("readme"):
            continue
        try:
            lines = [line.split() for line in lines_of(read_text(path)) if line.strip()]
        except UserError:
            continue
        if lines:
            return len(lines[0]) >= 5 and all(map(_is_number, lines[0]))
    return False


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
