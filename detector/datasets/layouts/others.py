"""Annotations that other programs write and that are not read here, recognised so that a refusal can name them."""

import re
from pathlib import Path

from detector.datasets.layouts.names import files_of, named_folders, subfolders

# The end of a file's name, and what it is.
_BY_NAME = {
    "-annotations-bbox.csv": "Open Images' CSV",
    "_annotations.csv": "a CSV file of TensorFlow's or RetinaNet's form",
    "_annotations.createml.json": "Apple's CreateML",
    ".tfrecord": "TensorFlow records",
    ".parquet": "Parquet",
    ".csv": "a CSV table",
}
# What the start of a JSON file has.
_BY_CONTENT = {
    re.compile(rb'"shapes"\s*:\s*\[|"imageHeight"\s*:'): "LabelMe's JSON",
    re.compile(rb'"_via_|"regions"\s*:'): "the VGG annotator's JSON",
    re.compile(rb'^\s*\[\s*\{.*"(annotations|completions)"\s*:\s*\[', re.DOTALL): "Label Studio's own JSON",
}
_START = 100_000  # bytes of a JSON file that are looked at
_MOST_FOLDERS = 10
_KITTI = re.compile(r"^[A-Za-z_]+( -?[\d.]+){14,15}\s*$", re.MULTILINE)


def describe_other(folder: Path) -> str | None:
    """A file of a folder, or of a folder in it, and what it is; None where nothing is known either."""
    for place in (folder, *subfolders(folder)[:_MOST_FOLDERS]):
        for ending, what in _BY_NAME.items():
            if ending != ".csv" and (found := files_of(place, (ending,))):
                return f"{found[0]}: is {what}"
        for path in files_of(place, (".json",))[:_MOST_FOLDERS]:
            start = _start_of(path)
            for pattern, what in _BY_CONTENT.items():
                if pattern.search(start):
                    return f"{path}: is {what}"
        labels = [place, *named_folders(place, ("label_2", "labels"))]
        for path in [path for inner in labels for path in files_of(inner, (".txt",))[:1]]:
            if _KITTI.match(_start_of(path).decode("utf-8", "replace")):
                return f"{path}: is KITTI's form"
    for place in (folder, *subfolders(folder)[:_MOST_FOLDERS]):
        if found := files_of(place, (".csv",)):
            return f"{found[0]}: is {_BY_NAME['.csv']}"
    return None


def _start_of(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_START)
    except OSError:
        return b""
