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

    What has a train split goes before what has none, a YAML file with `val:` alone before folders without one.

    Args:
        folder: the uppermost of the set.
        source: what the user gave.

    Raises:
        UserError: two folders are named for one split.
    """
    named = {path: read_splits(path) or {} for path in files_of(folder, (".yaml", ".yml"))}
    yamls = [path for path, splits in named.items() if "train" in splits]
    data = files_of(folder, (".data",))
    if data and not yamls:
        return [Candidate("darknet", "yolo", f"data={path}", partial(darknet_layout, path, source)) for path in data]
    splits = {} if yamls else _trees(folder, source)
    if "train" not in splits:
        yamls = yamls or [path for path, places in named.items() if any(split in places for split in SPLITS)]
    if yamls:
        return [Candidate("YOLO", "yolo", f"data={path}", partial(yaml_layout, path, source)) for path in yamls]
    if not splits:
        return []
    return [Candidate("YOLO", "yolo", f"data={source} data.format=yolo", lambda: _open(splits, source))]


def _open(splits: dict[str, Split], source: Path) -> Layout:
    labels = next(iter(splits.values())).annotations
    find_class_file(labels if labels.is_dir() else labels.parent)  # without names there is nothing to train for
    lists = [split.annotations for split in splits.values() if split.annotations.is_file()]
    remedy = f"List its training pictures in {lists[0].with_name('train.txt')}." if lists else Layout.name_train
    table = {split: splits[split] for split in SPLITS if split in splits}
    return Layout(source, "YOLO", "yolo", table, name_train=remedy)


def _trees(folder: Path, source: Path) -> dict[str, Split]:
    """Labels and pictures by split, by the names of folders or lists; empty where there are none.

    Folders with names of splits go before lists without a train split, and these before folders without such names:
    what a list keeps for val is not trained on.
    """
    lists = {split_of(path.stem): path for path in files_of(folder, (".txt",)) if is_picture_list(path)}
    named = {split: list_split(path, source) for split, path in lists.items() if split is not None}
    return named if "train" in named else _split_trees(folder, source) or named or _whole_tree(folder)


def _split_trees(folder: Path, source: Path) -> dict[str, Split]:
    """Labels and pictures in folders with names of splits."""
    images, labels = _images_and_labels(folder)
    if images is not None and labels is not None:
        with_labels = [(split, path) for split, path in split_folders(images) if _labels(labels / path.name)]
        inner = one_of_each(with_labels, source)
        return {split: Split(labels / path.name, path) for split, path in inner.items()}
    found = [(split, path) for split, path in split_folders(folder) if _pair(path) is not None]
    return {split: pair for split, path in one_of_each(found, source).items() if (pair := _pair(path)) is not None}


def _whole_tree(folder: Path) -> dict[str, Split]:
    """Labels and pictures in two folders, or beside each other, as the one split that there is."""
    images, labels = _images_and_labels(folder)
    if images is not None and labels is not None:
        return {"train": Split(labels, images)} if _labels(labels) else {}
    return {"train": Split(folder, folder)} if _labels(folder) and has_pictures(folder, 0) else {}


def _images_and_labels(folder: Path) -> tuple[Path | None, Path | None]:
    images, labels = (next(iter(named_folders(folder, (name,))), None) for name in ("images", "labels"))
    return images, labels


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
