"""Lists of names, one a line, as the splits of a Pascal VOC tree: `ImageSets/Main/train.txt`."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from detector.datasets.formats.text_files import lines_of, read_text
from detector.datasets.pictures.suffixes import picture_suffixes
from detector.errors import UserError

# In small letters; the devkit's is Annotations.
_FOLDERS = ("annotations", "annotation", "xmls", "xml")
_ABOVE = 3  # folders in which the folder of annotations may be, the list's own the first of them


def annotation_folder(source: Path) -> Path:
    """The folder of the XML files that a list of names means: beside it or beside a folder around it, or its own."""
    for parent in (source.parent, *source.parents[1:_ABOVE]):
        for name in sorted(os.listdir(parent)) if parent.is_dir() else ():
            if name.lower() in _FOLDERS and (parent / name).is_dir():
                return parent / name
    return source.parent


def listed_stems(source: Path) -> tuple[Path, list[str]]:
    """The folder of XML files, and the names below it, without `.xml`, that a list's lines mean.

    A line is a name, which may have spaces, with or without its picture's suffix; after it may stand whether the
    picture shows the one class that the list is about. Or it is the paths of a picture and of its XML file.

    Raises:
        UserError: the list cannot be read, names a picture more than once, or one outside the tree.
    """
    lines = [line.strip() for line in lines_of(read_text(source, "list of names")) if line.strip()]
    folder = annotation_folder(source)
    stems = [_stem(line, source, folder) for line in lines]
    repeated = sorted({stem for stem in stems if stems.count(stem) > 1}) if len(set(stems)) < len(stems) else []
    if repeated:
        raise UserError(f"{source}: lists {repeated[0]} more than once. Remove the repetition.")
    outside = [stem for stem in stems if stem.startswith("/") or ".." in PurePosixPath(stem).parts]
    if outside:
        raise UserError(f"{source}: lists {outside[0]}, which lies outside the tree. Correct the name.")
    return folder, stems


def _stem(line: str, source: Path, folder: Path) -> str:
    readings = list(_readings(line, source, folder))
    return next((stem for stem in readings if (folder / f"{stem}.xml").is_file()), line.split()[0])


def _readings(line: str, source: Path, folder: Path) -> Iterator[str]:
    """What a line may mean, the likeliest first."""
    words = line.split()
    yield line
    yield words[0]
    for name in (line, words[0]):
        if name.lower().endswith(picture_suffixes()):
            yield str(PurePosixPath(name).with_suffix(""))
    if words[-1].lower().endswith(".xml"):
        path = os.path.normpath(source.parent / words[-1].replace("\\", "/"))
        yield os.path.relpath(path, folder)[: -len(".xml")].replace(os.sep, "/")
