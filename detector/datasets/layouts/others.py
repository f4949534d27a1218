"""Which file of a folder says what other programs' annotations it has."""

from pathlib import Path

from detector.datasets.formats.other_formats import refuse_other
from detector.datasets.layouts.coco_files import missing_lists
from detector.datasets.layouts.names import files_of, subfolders

_SUFFIXES = (".json", ".jsonl", ".ndjson", ".xml", ".txt", ".manifest", ".mat", ".record", ".parquet", ".arrow")
_TABLES = (".csv", ".tsv")
_DEPTH, _MOST_FOLDERS = 3, 60
_MOST_FILES = 10  # of a folder and a suffix


def refuse_others(folder: Path) -> str | None:
    """Why a set is not read: the first file below a folder that is of another format, in a sentence with the remedy.

    None where nothing is known either. Tables, which many sets have beside their annotations, come last.
    """
    folders = _folders(folder)
    for suffixes in (_SUFFIXES, _TABLES):
        for place in folders:
            for path in _some_files(place, suffixes):
                if (refusal := refuse_other(path)) or (refusal := _refuse_incomplete(path)):
                    return refusal
    return None


def _refuse_incomplete(path: Path) -> str | None:
    """Of a JSON file that lacks one of a COCO file's three lists."""
    missing = missing_lists(path) if path.suffix.lower() == ".json" else []
    return f"{path}: is a COCO file without a list of {missing[0]}; add it." if len(missing) == 1 else None


def _folders(folder: Path) -> list[Path]:
    """A folder and those in it, the outer ones first."""
    found = level = [folder]
    for _ in range(_DEPTH):
        level = [inner for place in level for inner in subfolders(place)[:_MOST_FOLDERS]]
        found = [*found, *level][:_MOST_FOLDERS]
    return found


def _some_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    found = [path for suffix in suffixes for path in files_of(folder, (suffix,))[:_MOST_FILES]]
    if suffixes == _SUFFIXES:
        found += [path for path in files_of(folder, ("",))[:_MOST_FILES] if "tfrecord" in path.name.lower()]
    return found
