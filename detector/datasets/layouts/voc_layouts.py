"""Ways to read a folder as Pascal VOC annotations: the devkit's tree, Roboflow's exports, XML files beside pictures."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from detector.datasets.formats.other_formats import refuse_other
from detector.datasets.formats.text_files import read_text
from detector.datasets.formats.voc_list import annotation_folder, listed_stems
from detector.datasets.layouts.layout import SPLITS, Candidate, Layout, Split, ambiguous
from detector.datasets.layouts.names import (
    ANNOTATION_FOLDERS,
    PICTURE_FOLDERS,
    files_of,
    has_pictures,
    named_folders,
    one_of_each,
    split_folders,
    subfolders,
)
from detector.errors import UserError

_LISTS = {"train": "train", "val": "val", "valid": "val", "test": "test"}
_LOOKED_INTO = 5  # XML files of a folder


def voc_candidates(folder: Path, source: Path) -> list[Candidate]:
    """The ways to read a folder's XML files: one, or none; one for each year of a devkit.

    Args:
        folder: the uppermost of the set.
        source: what the user gave.

    Raises:
        UserError: two folders are named for one split.
    """
    choice = f"data={source} data.format=voc"
    if _lists(folder):
        return [Candidate("Pascal VOC", "voc", choice, lambda: _open_lists(folder, source))]
    years = [year for year in subfolders(folder) if year.name.upper().startswith("VOC") and _lists(year)]
    if years:
        return [Candidate("Pascal VOC", "voc", f"data={year}", partial(_open_lists, year, source)) for year in years]
    found = [(split, path, pair) for split, path in split_folders(folder) if (pair := _pair(path, path)) is not None]
    table = {split: _pair(path, path) for split, path in one_of_each([(s, p) for s, p, _ in found], source).items()}
    splits = {split: pair for split in SPLITS if (pair := table.get(split)) is not None}
    if splits:
        kind = "Roboflow export, Pascal VOC" if (folder / "README.roboflow.txt").is_file() else "Pascal VOC"
        return [Candidate(kind, "voc", choice, lambda: Layout(source, kind, "voc", splits))]
    pair = _pair(folder, folder)
    if pair is None:
        return []
    notes = _other_lists(folder)
    return [Candidate("Pascal VOC", "voc", choice, lambda: replace(_open_folders(pair, source), notes=notes))]


def _other_lists(folder: Path) -> tuple[str, ...]:
    """What to say of lists of names in a tree that has none by the name of a split: lists of one class, say."""
    for place in (folder / "ImageSets" / "Main", folder / "ImageSets"):
        names = [path.name for path in files_of(place, (".txt",))]
        if names:
            listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
            return (f"{place}: {listed} not used; the lists that are read are train.txt, val.txt and test.txt there.",)
    return ()


def voc_list_layout(path: Path) -> Layout:
    """What a list of names in a devkit's ImageSets stands for: the splits beside it."""
    return _open_lists(annotation_folder(path).parent, path)


def _lists(folder: Path) -> dict[str, Path]:
    """The lists of names in a devkit's tree, or beside its folder of annotations, by their stems.

    Those of one class are left out, and beside the annotations those whose first name has none: YOLO has such too.
    """
    found: dict[str, Path] = {}
    if named_folders(folder, ANNOTATION_FOLDERS):
        for place in (folder / "ImageSets" / "Main", folder / "ImageSets", folder):
            for path in files_of(place, (".txt",)):
                is_list = path.stem.lower() in (*_LISTS, "trainval", "default")
                if is_list and (place != folder or _leads_to_annotations(path)):
                    found.setdefault(path.stem.lower(), path)
    return found


def _has_annotations(source: Path) -> bool:
    """Whether one of the first pictures that a list names has annotations. Raises UserError as `listed_stems` does."""
    folder, stems = listed_stems(source)
    return any((folder / f"{stem}.xml").is_file() for stem in stems[:50])


def _leads_to_annotations(source: Path) -> bool:
    try:
        return _has_annotations(source)
    except UserError:  # it may be a list of another kind
        return False


def _open_lists(folder: Path, source: Path) -> Layout:
    lists = _lists(folder)
    pictures = named_folders(folder, PICTURE_FOLDERS)
    if not pictures and not has_pictures(folder):
        raise UserError(f"{folder}: has annotations and no pictures; put them into JPEGImages there.")
    images = pictures[0] if pictures else folder
    splits: dict[str, Split] = {}
    notes: list[str] = []
    lost = ""
    for stem, path in lists.items():
        if not _has_annotations(path):
            is_empty = not read_text(path, "list of names").strip()
            why = "it is empty" if is_empty else "its pictures have no annotations"
            notes.append(f"{path} is not used: {why}.")
            if stem == "train":
                lost = f"{path}: {why}, so there is nothing to train on. Correct it, or put them there."
        elif stem in _LISTS:
            if _LISTS[stem] in splits:
                both = [str(splits[_LISTS[stem]].annotations), str(path)]
                raise ambiguous(source, f"two lists are of the {_LISTS[stem]} split", [f"remove {p}" for p in both])
            splits[_LISTS[stem]] = Split(path, images)
    whole = lists.get("trainval") or lists.get("default")
    if "train" not in splits and whole is not None and _has_annotations(whole):
        splits["train"] = Split(whole, images)
        if "val" in splits and whole.stem.lower() == "trainval":  # whose pictures are in it
            del splits["val"]
    if not splits:
        why = notes[0] if notes else "there is no list named train.txt or trainval.txt."
        raise UserError(f"{source}: its lists of names lead to no annotations: {why} Correct them, or remove them.")
    table = {split: splits[split] for split in SPLITS if split in splits}
    place = next(iter(splits.values())).annotations.with_name("train.txt")
    remedy = f"List its training pictures in {place}."
    lost = "" if "train" in splits else lost
    return Layout(source, "Pascal VOC", "voc", table, tuple(notes), lost, remedy)


def _pair(folder: Path, pictures: Path) -> Split | None:
    """XML files directly in a folder, or in one for annotations in it; and where their pictures lie."""
    if _has_xml(folder):
        return Split(folder, pictures)
    for annotations in named_folders(folder, ANNOTATION_FOLDERS):
        inner = subfolders(annotations)[:20]
        if _has_xml(annotations) or any(map(_has_xml, inner)):
            beside = [path for path in named_folders(folder, PICTURE_FOLDERS) if has_pictures(path)]
            return Split(annotations, beside[0] if beside else folder)
    return None


def _has_xml(folder: Path) -> bool:
    """Whether there are XML files in a folder; those of another format, such as CVAT's own, are none."""
    return any(refuse_other(path) is None for path in files_of(folder, (".xml",))[:_LOOKED_INTO])


def _open_folders(pair: Split, source: Path) -> Layout:
    """Folders of annotations and pictures, with the splits as folders in both, or without splits."""
    with_texts = [(split, path) for split, path in split_folders(pair.annotations) if _has_xml(path)]
    texts = one_of_each(with_texts, source)
    named = {path.name for path in texts.values()}
    every = split_folders(pair.images)
    images = one_of_each([one for one in every if one[1].name in named] or every, source)
    if not texts or (_has_xml(pair.annotations) and "train" not in texts):
        return Layout(source, "Pascal VOC", "voc", {"train": pair})
    splits = {split: Split(texts[split], images.get(split, pair.images)) for split in SPLITS if split in texts}
    return Layout(source, "Pascal VOC", "voc", splits)
