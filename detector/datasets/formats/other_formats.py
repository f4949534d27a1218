"""Annotations that other programs write and that are not read here, recognised so that a refusal can name them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detector.errors import UserError

_START = 100_000  # bytes of a file that are looked at
_REMEDY = "export the set as COCO, Pascal VOC or YOLO"

# The name of a file, in small letters, and what it is.
_BY_NAME = {
    r".*-annotations-bbox\.csv": "Open Images' CSV",
    r".*_annotations\.csv": "a CSV file of TensorFlow's or RetinaNet's form",
    r".*_annotations\.createml\.json": "Apple's CreateML",
    r".*\.(tfrecords?|record)|.*\.tfrecords?-\d+-of-\d+": "a file of TensorFlow records",
    r".*\.(parquet|arrow)": "a table of Hugging Face's datasets (Parquet or Arrow)",
    r"metadata\.jsonl": "Hugging Face's metadata.jsonl",
    r"_annotations\..*jsonl": "Roboflow's file for language models",
    r".*_bbx_gt\.txt": "WIDER FACE's list",
    r"_annotations\.txt": "Roboflow's text file for YOLOv3 and YOLOv4 in Keras and PyTorch",
    r".*\.manifest": "SageMaker's manifest",
    r".*\.mat": "a MATLAB file",
}
# What the start of a JSON file, or of one of JSON lines, has; the first that fits.
_JSON = {
    r'"coordinates"\s*:\s*\{\s*"(x|y|width|height)"': "Apple's CreateML",
    r'"asset"\s*:\s*\{|"visitedTagNames"': "VoTT's JSON",
    r'"_via_|"regions"\s*:': "the VGG annotator's JSON",
    r'"shapes"\s*:\s*\[|"imageHeight"\s*:': "LabelMe's JSON",
    r'"geometryType"\s*:|"classTitle"\s*:': "Supervisely's JSON",
    r'"imgHeight"\s*:': "Cityscapes' JSON",
    r'"box2d"\s*:': "BDD100K's or Scalabel's JSON",
    r'"data_row"\s*:|"Labeled Data"\s*:': "Labelbox's JSON",
    r'"source-ref"\s*:': "SageMaker's manifest",
    r'"segments_info"\s*:': "COCO's panoptic annotations",
    r'"rectanglelabels"|"completions"\s*:\s*\[': "Label Studio's own JSON",
    r'"annotations"\s*:\s*\[\s*\{[^\]]*"result"\s*:': "Label Studio's own JSON",
    r'^\s*\{.*"items"\s*:\s*\[|^\s*\{.*"categories"\s*:\s*\{\s*"label"\s*:': "Datumaro's JSON",
    r'^\s*\[\s*\{[^{}]*"score"\s*:': "a file of detections (COCO results) in the place of annotations",
}
_XML = {
    r"<annotations\b": "CVAT's own XML",
    r"<dataset\b": "the XML of dlib's imglab",
    r"<sequence\b": "UA-DETRAC's XML",
}
# The first lines of a text file.
_NUMBER = r"-?[\d.]+"
_TEXT = {
    rf"[A-Za-z_]+( {_NUMBER}){{14,15}}": "KITTI's form",
    rf"({_NUMBER} ){{8}}[A-Za-z][\w-]*( [0-2])?": "DOTA's form, with turned boxes",
    rf"\d+,-?\d+(,{_NUMBER}){{4}},.*": "MOT's or VisDrone's form",
    rf"\d+(, *{_NUMBER}){{4}}|[A-Za-z]\S*( {_NUMBER}){{4}}": (
        "a text file whose lines are not YOLO's, five numbers parted by spaces and the first of them the class's"
    ),
}
# The first line of a table.
_CSV = {
    r"ImageID,Source,LabelName,": "Open Images' CSV",
    r"filename,width,height,class,": "a CSV file of TensorFlow's form",
}
# How archives begin. gzip is left to those who read compressed JSON.
_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c")
_ARCHIVE_NAMES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".rar", ".7z")
_POINTER = b"version https://git-lfs.github.com/"


def refuse_other(path: Path) -> str | None:
    """Why a file of annotations is not read, a sentence with its name and the remedy; None where it is not known.

    A file that cannot be opened is known by its name alone.
    """
    name, start = path.name.lower(), _start_of(path)
    if start.startswith(_POINTER):
        return f"{path}: is a pointer of Git LFS in the place of the file; fetch the files with git lfs pull."
    if is_archive(path, start):
        return f"{path}: is an archive; unpack it, and give the folder."
    what = next((what for pattern, what in _BY_NAME.items() if re.fullmatch(pattern, name)), None)
    text = start.decode("utf-8", "replace").removeprefix("\ufeff")
    if what is None and name.endswith((".json", ".jsonl", ".ndjson")):
        what = _first(_JSON, text) or ("a file of JSON lines" if not name.endswith(".json") else None)
    if what is None and name.endswith(".xml"):
        what = _first(_XML, text)
    if what is None and name.endswith(".txt"):
        lines = [line.strip() for line in text.split("\n")[:10]]
        what = next((w for p, w in _TEXT.items() if any(re.fullmatch(p, line) for line in lines)), None)
    if what is None and name.endswith((".csv", ".tsv")):
        what = _first(_CSV, text.partition("\n")[0]) or "a CSV table"
    return None if what is None else f"{path}: is {what}, which is not read; {_REMEDY}."


@contextmanager
def known_by_content(source: Path) -> Iterator[None]:
    """Within this, where a file cannot be read and is of another format, the refusal says which."""
    try:
        yield
    except UserError:
        other = refuse_other(source) if source.is_file() else None
        if other is None:
            raise
        raise UserError(other) from None


def is_archive(path: Path, start: bytes | None = None) -> bool:
    """Whether a file is an archive, by its name or its first bytes (`start`, where they are known)."""
    head = _start_of(path) if start is None else start
    return path.name.lower().endswith(_ARCHIVE_NAMES) or head.startswith(_ARCHIVES) or head[257:262] == b"ustar"


def _first(patterns: dict[str, str], text: str) -> str | None:
    return next((what for pattern, what in patterns.items() if re.search(pattern, text, re.DOTALL)), None)


def _start_of(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_START)
    except OSError:
        return b""
