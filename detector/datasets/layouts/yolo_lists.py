"""Lists of pictures, one path a line, as the splits of YOLO and darknet trees."""

from pathlib import Path

from detector.datasets.formats.picture_list import list_folder
from detector.datasets.formats.text_files import lines_of, read_text
from detector.datasets.layouts.layout import SPLITS, Layout, Split
from detector.errors import UserError

_STARTS = 3  # folders above a `.data` file at which its paths may start


def list_split(path: Path, source: Path) -> Split:
    """The split that a list of pictures stands for; its folder of pictures is the one around them all.

    Raises:
        UserError: the list is empty, or its first picture is not there.
    """
    return Split(path, list_folder(path, source))


def darknet_layout(path: Path, source: Path) -> Layout:
    """The splits that a darknet `.data` file names.

    Raises:
        UserError: it names no list of pictures, none that is there, or one that leads nowhere.
    """
    entries: dict[str, str] = {}
    for line in lines_of(read_text(path)):
        key, equals, value = line.partition("=")
        if equals:
            entries[key.strip().lower()] = value.strip()
    splits: dict[str, Split] = {}
    lost: dict[str, str] = {}
    for key, split in (("train", "train"), ("valid", "val"), ("val", "val"), ("test", "test")):
        if key not in entries or split in splits:
            continue
        starts = [path.parent, *path.parents[1:_STARTS]]
        candidates = [*(start / entries[key] for start in starts), path.parent / Path(entries[key]).name]
        found = next((place for place in candidates if place.is_file()), None)
        if found is not None:
            splits[split] = list_split(found, source)
        else:
            lost.setdefault(split, f"{path}: names the list {entries[key]}, which is not there. Correct its path.")
    if not splits:
        raise UserError(next(iter(lost.values()), f"{path}: names no list of pictures; write train = LIST into it."))
    return Layout(
        source,
        "darknet",
        "yolo",
        {split: splits[split] for split in SPLITS if split in splits},
        tuple(f"the {split} split is not used: {refusal}" for split, refusal in lost.items() if split not in splits),
        lost.get("train", ""),
        f"Write train = LIST into {'it' if path == source else path}.",
    )
