"""YOLO annotation trees (one text file a picture, coordinates as fractions) to a dataset."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from detector.categories import CategoryMap
from detector.datasets.dataset import Annotations, DetectionDataset, make_dataset
from detector.datasets.pictures.folders import IMAGE_SUFFIXES, by_stem, list_files
from detector.datasets.pictures.read import image_size
from detector.errors import UserError, shown
from detector.structures import Size

_NAME_FILES = ("data.yaml", "dataset.yaml", "classes.txt", "obj.names")

# Fractions stray above 1 by rounding; a coordinate beyond this was meant in pixels.
_LARGEST_FRACTION = 2.0


def read_yolo(annotations: str | Path, images: str | Path, drop_degenerate_boxes: bool = True) -> DetectionDataset:
    """Read a YOLO tree: for `images/a/b.jpg` the file `labels/a/b.txt`, one object a line.

    A line is `class x_center y_center width height` in fractions of the upright picture's width and height, or
    `class x1 y1 x2 y2 x3 y3 …`, a polygon, of which the enclosing box is taken. Class c (from 0) gets the category id
    c + 1. A picture without a text file has no objects. Sizes are read from the headers of all pictures. Pictures are
    numbered 1, 2, … in the order of their names.

    Args:
        annotations: the labels folder, with `data.yaml` or `classes.txt` in it or up to three folders above; or one of
            these files itself, with the labels where the path of `images` has `labels` in the place of `images`, in a
            folder `labels` beside the file, or among the pictures.
        images: the folder of pictures, searched with its subfolders.
        drop_degenerate_boxes: see `make_dataset`.

    Raises:
        UserError: a file is missing or not understood, or no picture has a text file.
    """
    source = Path(annotations)
    classes = find_categories(source)
    folder = labels_folder(source, Path(images))
    names = list_files(images, IMAGE_SUFFIXES)
    by_stem(names)  # refuses two pictures that would share a text file
    paths = [folder / PurePosixPath(name).with_suffix(".txt") for name in names]
    if names and not any(path.is_file() for path in paths):
        raise UserError(f"{folder}: none of the {len(names)} pictures in {images} has a text file here.")

    sizes = [image_size(Path(images, name)) for name in names]
    objects = [_read_objects(path, size, len(classes)) for path, size in zip(paths, sizes, strict=True)]
    counts = [len(rows) for rows in objects]
    rows = np.concatenate([*objects, np.empty((0, 5))])
    boxes = rows[:, 1:]
    columns = Annotations(
        image_ids=range(1, len(names) + 1),
        names=names,
        sizes=sizes,
        owners=np.repeat(np.arange(len(names)), counts),
        boxes=boxes,
        labels=rows[:, 0].astype(np.int64) + 1,
        iscrowd=np.zeros(len(rows), bool),
        areas=(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
        box_names=[number for count in counts for number in range(1, count + 1)],
    )
    return make_dataset(columns, classes, str(source), images, drop_degenerate_boxes)


def find_categories(source: Path) -> CategoryMap:
    """The class names in a file, or in the nearest known file of a folder and the three above it.

    Raises:
        UserError: there is no such file or folder, or no class names.
    """
    if source.is_file():
        return _read_names(source)
    if not source.is_dir():
        raise UserError(f"{source}: no such file or folder. Check the path.")
    for folder in (source.resolve(), *source.resolve().parents[:3]):
        for name in _NAME_FILES:
            if (folder / name).is_file():
                return _read_names(folder / name)
    raise UserError(f"{source}: found no class names; put a data.yaml or classes.txt into the folder, or above it.")


def _read_names(path: Path) -> CategoryMap:
    text = read_text(path)
    if path.suffix not in (".yaml", ".yml"):
        names: list[Any] = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        try:
            content = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())}). Mend it.") from None
        entry = content.get("names") if isinstance(content, Mapping) else None
        if isinstance(entry, Mapping) and sorted(entry, key=str) == sorted(range(len(entry)), key=str):
            entry = [entry[number] for number in range(len(entry))]
        names = entry if isinstance(entry, list) else []
    if not names:
        raise UserError(f"{path}: has no class names; list them as names: [first, second, …], numbered from 0.")
    wrong = [name for name in names if not isinstance(name, str | int | float)]
    if wrong:
        raise UserError(f"{path}: the class name {shown(wrong[0])} is not text; put it in quotes.")
    return CategoryMap.from_names([str(name) for name in names])


def labels_folder(source: Path, images: Path) -> Path:
    """Where the text files lie, for the two paths that `read_yolo` takes."""
    if source.is_dir():
        return source
    parts = images.parts
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        parallel = Path(*parts[:last], "labels", *parts[last + 1 :])
        if parallel.is_dir():
            return parallel
    beside = source.parent / "labels"
    return beside if beside.is_dir() else images


def _read_objects(path: Path, size: Size, num_classes: int) -> np.ndarray:
    """[G, 5] float64: class from 0, x1, y1, x2, y2 in pixels of the picture; G is 0 where there is no file."""
    if not path.is_file():
        return np.empty((0, 5))
    lines = enumerate(read_text(path).splitlines(), start=1)
    rows = [read_line(line.split(), f"{path} line {number}", num_classes) for number, line in lines if line.strip()]
    height, width = size
    return np.array(rows, np.float64).reshape(-1, 5) * (1, width, height, width, height)


def read_line(words: list[str], where: str, num_classes: int) -> tuple[float, ...]:
    """Class from 0, x1, y1, x2, y2 as fractions.

    Args:
        words: of the line.
        where: file and line, for messages.

    Raises:
        UserError: they are not numbers, too few or too many, no class, or no fractions.
    """
    try:
        label, *values = (float(word) for word in words)
    except ValueError:
        raise UserError(f"{where}: {' '.join(words)[:80]!r} are not numbers only. Mend or remove the line.") from None
    if not (len(values) == 4 or (len(values) >= 6 and len(values) % 2 == 0)):
        raise UserError(
            f"{where}: has {len(words)} numbers; expected class x_center y_center width height, or class and the "
            "corners of a polygon. Mend or remove the line."
        )
    if label not in range(num_classes):
        raise UserError(f"{where}: class {words[0]} is not in 0..{num_classes - 1}. Mend it, or the list of names.")
    if max(values) > _LARGEST_FRACTION:
        raise UserError(
            f"{where}: {max(values):g} is no fraction of the picture; divide pixels by its width and height."
        )
    if len(values) == 4:
        x, y, width, height = values
        return label, x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return label, min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])


def read_text(path: Path) -> str:
    """A text file's contents. Raises UserError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read the file ({' '.join(str(error).split())}). Check it.") from None
