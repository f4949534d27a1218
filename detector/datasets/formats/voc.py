"""Pascal VOC annotation trees (one XML file a picture) to a dataset."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from detector.categories import CategoryMap
from detector.datasets.dataset import Annotations, DetectionDataset, make_dataset
from detector.datasets.pictures.folders import IMAGE_SUFFIXES, by_stem, list_files
from detector.datasets.pictures.read import image_size
from detector.errors import UserError
from detector.structures import Size

# What the format says of an object beyond class and box.
FLAGS = ("pose", "truncated", "occluded", "difficult")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class _Objects(NamedTuple):
    """What one XML file says: the picture's file name and size, and each object's class and corners."""

    file_name: str
    size: Size | None
    names: list[str]
    boxes: list[tuple[float, ...]]


def read_voc(
    annotations: str | Path,
    images: str | Path,
    categories: CategoryMap | None = None,
    drop_degenerate_boxes: bool = True,
) -> DetectionDataset:
    """Read a Pascal VOC tree.

    Corners are taken as they are: x1 = xmin, x2 = xmax, so that width = xmax − xmin and nothing is lost on the way
    back. (The VOC devkit counts pixels from 1 and includes the last; most programs that write this format do neither,
    and the files do not say.) Objects marked `difficult` are objects like the others, as in detectron2. Pictures are
    numbered 1, 2, … in the order of their files. A picture is that of the same name as the XML file, in the same
    subfolder, or else the one its `filename` names.

    Args:
        annotations: the folder of XML files, searched with its subfolders; or a list of names such as
            `VOC2012/ImageSets/Main/train.txt`, whose XML files lie in `VOC2012/Annotations` or beside it.
        images: the folder of pictures, `JPEGImages` by custom.
        categories: labels for the class names, where other data has fixed them; None: those found, in alphabetical
            order.
        drop_degenerate_boxes: see `make_dataset`.

    Raises:
        UserError: a file is missing or not understood, or names a class that `categories` lacks.
    """
    source = str(annotations)
    folder, stems = annotation_files(Path(annotations))
    pictures = by_stem(list_files(images, IMAGE_SUFFIXES))
    found = {stem: _read_objects(folder / f"{stem}.xml") for stem in stems}
    if categories is None:
        names = sorted({name for objects in found.values() for name in objects.names})
        if not names:
            raise UserError(f"{source}: found no annotated objects; check that it is the right folder or list.")
        categories = CategoryMap.from_names(names)
    file_names = [find_picture(stem, objects.file_name, pictures, folder, images) for stem, objects in found.items()]
    sizes = [
        objects.size or image_size(Path(images, name)) for name, objects in zip(file_names, found.values(), strict=True)
    ]
    counts = [len(objects.boxes) for objects in found.values()]
    boxes = np.array([box for objects in found.values() for box in objects.boxes], np.float64).reshape(-1, 4)
    columns = Annotations(
        image_ids=range(1, len(found) + 1),
        names=file_names,
        sizes=sizes,
        owners=np.repeat(np.arange(len(found)), counts),
        boxes=boxes,
        labels=_labels(found.items(), categories, folder),
        iscrowd=np.zeros(len(boxes), bool),
        areas=(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
        box_names=[number for count in counts for number in range(1, count + 1)],
    )
    return make_dataset(columns, categories, source, images, drop_degenerate_boxes)


def annotation_files(annotations: Path) -> tuple[Path, list[str]]:
    """The folder of XML files, and their names without `.xml`.

    Args:
        annotations: as in `read_voc`.

    Raises:
        UserError: there is no such folder or list, or the list has a name twice.
    """
    if annotations.suffix != ".txt":
        return annotations, [name.removesuffix(".xml") for name in list_files(annotations, (".xml",))]
    try:
        lines = annotations.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{annotations}: cannot read the list of names ({error}). Check the path.") from None
    # Lists of one class have a second column that says whether the picture shows it.
    stems = [line.split()[0] for line in lines if line.strip()]
    repeated = sorted({stem for stem in stems if stems.count(stem) > 1}) if len(set(stems)) < len(stems) else []
    if repeated:
        raise UserError(f"{annotations}: lists {repeated[0]} more than once. Remove the repetition.")
    outside = [stem for stem in stems if stem.startswith("/") or ".." in PurePosixPath(stem).parts]
    if outside:
        raise UserError(f"{annotations}: lists {outside[0]}, which lies outside the tree. Correct the name.")
    for parent in (annotations.parent, *annotations.parents[1:3]):
        if (parent / "Annotations").is_dir():
            return parent / "Annotations", stems
    return annotations.parent, stems


def read_xml(path: Path) -> Element:
    """The root of an XML file, read without trusting it. Raises UserError where it is missing or no XML."""
    try:
        return fromstring(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot read the annotations ({error.strerror}). Check the path.") from None
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not an XML file of annotations ({reason}). Replace or remove it.") from None


def read_object(entry: Element, path: Path) -> tuple[str, tuple[float, ...]]:
    """Class name, and (xmin, ymin, xmax, ymax) as they are. Raises UserError where one is missing or no number."""
    return _text(entry, "name", path), tuple(_number(entry, f"bndbox/{corner}", path) for corner in _CORNERS)


def stated_size(root: Element) -> Size | None:
    """(height, width) of an annotation file; None where they are missing or nonsense."""
    height, width = (_whole_number(root, f"size/{edge}") for edge in ("height", "width"))
    return (height, width) if height and width else None


def _read_objects(path: Path) -> _Objects:
    root = read_xml(path)
    objects = [read_object(entry, path) for entry in root.findall("object")]
    names, boxes = [name for name, _ in objects], [box for _, box in objects]
    return _Objects(root.findtext("filename") or "", stated_size(root), names, boxes)


def _text(entry: Element, tag: str, path: Path) -> str:
    text = (entry.findtext(tag) or "").strip()
    if not text:
        raise UserError(f"{path}: an object has no {tag}. Add it or remove the object.")
    return text


def _number(entry: Element, tag: str, path: Path) -> float:
    text = _text(entry, tag, path)
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{path}: {tag} is {text!r}, which is not a number. Mend or remove the object.") from None


def _whole_number(root: Element, tag: str) -> int:
    """0 where a size is missing or nonsense; then the picture itself is asked."""
    text = (root.findtext(tag) or "").strip()
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def find_picture(stem: str, file_name: str, pictures: dict[str, str], folder: Path, images: str | Path) -> str:
    """The picture of an annotation file: the one of its name, or else the one it names.

    Args:
        stem: the annotation file's name below `folder` without `.xml`.
        file_name: what it says under `filename`.
        pictures: `by_stem` of the files in `images`.

    Raises:
        UserError: there is none.
    """
    named = PurePosixPath(file_name.replace("\\", "/")).name
    for candidate in (stem, str(PurePosixPath(stem).parent / PurePosixPath(named).stem)):
        if candidate in pictures:
            return pictures[candidate]
    raise UserError(f"{folder / stem}.xml: its picture {named or stem} is not in {images}. Add it or remove the file.")


def _labels(found: Iterable[tuple[str, _Objects]], categories: CategoryMap, folder: Path) -> np.ndarray:
    label_of = {name: label for label, name in enumerate(categories.names, start=1)}
    labels = []
    for stem, objects in found:
        for name in objects.names:
            if name not in label_of:
                known = ", ".join(categories.names)
                raise UserError(f"{folder / stem}.xml: the class {name!r} is not among {known}. Correct the name.")
            labels.append(label_of[name])
    return np.array(labels, np.int64)
