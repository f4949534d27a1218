"""Ways to read a folder as COCO annotations: Roboflow's exports, COCO's own tree, a file beside its pictures."""

from pathlib import Path

from detector.datasets.layouts.coco_files import SUFFIXES, NoPicturesError, is_coco_file, picture_folder
from detector.datasets.layouts.layout import SPLITS, Candidate, Layout, Split, ambiguous
from detector.datasets.layouts.names import (
    ANNOTATION_FOLDERS,
    files_of,
    is_split_name,
    named_folders,
    split_folders,
    split_of,
    without_split,
)
from detector.errors import UserError

ROBOFLOW = "_annotations.coco.json"
_MANY = 100  # JSON files in one folder: one a picture, which is another format


def coco_candidates(folder: Path, source: Path) -> list[Candidate]:
    """The one way to read a folder's COCO files, if it has any.

    Args:
        folder: the uppermost of the set.
        source: what the user gave.
    """
    files = _coco_files(folder)
    if not files:
        return []
    return [Candidate("COCO", "coco", f"data={source} data.format=coco", lambda: _open(files, folder, source))]


def coco_file_layout(path: Path) -> Layout:
    """What one COCO file stands for: it alone, or, where it is the file of a split, its splits together.

    Raises:
        UserError: a picture folder is not found, or could be several.
    """
    split = _split_of(path)
    if split is None:
        root = path.parent.parent if path.parent.name.lower() in ANNOTATION_FOLDERS else path.parent
        return Layout(path, "COCO file", "coco", {"train": Split(path, picture_folder(path, None, path, root))})
    root = path.parent
    if is_split_name(root.name) or root.name.lower() in ANNOTATION_FOLDERS:
        root = root.parent
    pattern = _without_split(path, root)
    siblings = [file for file in _coco_files(root) if _without_split(file, root) == pattern or file == path]
    return _open(siblings or [path], root, path)


def _coco_files(folder: Path) -> list[Path]:
    splits = [path for _, path in split_folders(folder)]
    tops = [folder, *named_folders(folder, ANNOTATION_FOLDERS), *splits]
    tops += [inner for split in splits for inner in named_folders(split, ANNOTATION_FOLDERS)]
    found = []
    for top in tops:
        files = files_of(top, SUFFIXES)
        found += [file for file in files if is_coco_file(file)] if len(files) <= _MANY else []
    return found


def _open(files: list[Path], root: Path, source: Path) -> Layout:
    by_split: dict[str | None, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split_of(file), []).append(file)
    chosen = {split: _one(alike, split, source) for split, alike in by_split.items() if split is not None}
    whole = by_split.get(None, [])
    notes: tuple[str, ...] = ()
    if "train" in chosen:
        notes = tuple(f"{file} is not used: it is of no split." for file in whole)
    elif whole:
        train = _one(whole, None, source)
        if chosen:
            chosen["train"] = train
        else:
            split = Split(train, picture_folder(train, None, source, root))
            return Layout(source, "COCO file", "coco", {"train": split})
    splits: dict[str, Split] = {}
    lost: dict[str, str] = {}
    for name in [name for name in SPLITS if name in chosen]:
        try:
            splits[name] = Split(chosen[name], picture_folder(chosen[name], name, source, root))
        except NoPicturesError as error:  # COCO's annotations of train and val are one download, the pictures two
            if name == "val":
                raise
            lost[name] = str(error)
    if not splits:
        raise UserError(next(iter(lost.values())))
    notes += tuple(f"the {name} split is not used: {refusal}" for name, refusal in lost.items())
    kind = "Roboflow export, COCO" if any(file.name == ROBOFLOW for file in chosen.values()) else "COCO"
    return Layout(source, kind, "coco", splits, notes, lost.get("train", ""))


def _one(files: list[Path], split: str | None, source: Path) -> Path:
    if len(files) > 1:
        # COCO's own downloads have key points and captions beside the objects.
        objects = [file for file in files if file.name.startswith("instances_")]
        if len(objects) != 1:
            what = f"{len(files)} COCO files could be {'its annotations' if split is None else f'the {split} split'}"
            raise ambiguous(source, what, [f"data={file}" for file in files])
        files = objects
    return files[0]


def _split_of(path: Path) -> str | None:
    """By the file's name, else by that of the folder around it."""
    own = split_of(path.name.split(".")[0])
    if own is not None:
        return own
    around = path.parent if path.parent.name.lower() not in ANNOTATION_FOLDERS else path.parent.parent
    return split_of(around.name) if is_split_name(around.name) else None


def _without_split(path: Path, root: Path) -> tuple[str, ...]:
    """A file's path below the set's folder, as it would be for any split."""
    parts = path.relative_to(root).parts if path.is_relative_to(root) else (path.name,)
    return tuple(without_split(part) for part in parts)
