"""Write annotations as COCO JSON, a Pascal VOC tree or a YOLO tree, and say what the format cannot hold.

All start from the contents of a COCO file that are sound: unique ids, four finite numbers a box, references that exist
(`detector.datasets.checks` finds what is not). Boxes are kept as they are, also those outside their picture. Decimal
coordinates survive the way through any format and back (of YOLO's, up to nine decimals).
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import yaml

from detector.datasets.formats.voc import FLAGS
from detector.datasets.formats.yolo_line import read_line
from detector.datasets.pictures.folders import by_stem
from detector.disk import whole_folder, write_atomically
from detector.errors import UserError

Row = dict[str, Any]

_IMAGE_KEYS = frozenset({"id", "file_name", "height", "width"})
_ANNOTATION_KEYS = frozenset({"id", "image_id", "category_id", "bbox", "area", "iscrowd"})
_CATEGORY_KEYS = frozenset({"id", "name"})


def write_coco(path: Path, content: Mapping[str, Any]) -> list[str]:
    """Write a COCO file. It holds everything, so the list of losses is empty.

    Raises:
        UserError: it cannot be written.
    """
    write_atomically(path, json.dumps(content).encode())
    return []


def write_voc(folder: Path, content: Mapping[str, Any], list_name: str) -> list[str]:
    """Write `Annotations/<picture>.xml` and `ImageSets/Main/<list_name>.txt`, which keeps the order of the images.

    xmin is x and xmax is x + width, as `voc_contents` takes them. Crowd regions, which VOC has not, are left out: as
    ordinary objects they would be learnt. Those that were VOC's `difficult` objects, and say so, become them again.

    Args:
        folder: must not exist yet, or be empty. The pictures go into `JPEGImages` in it.
        content: every image with its size.

    Returns:
        A line for everything in `content` that VOC cannot hold.

    Raises:
        UserError: the folder or a name cannot be used, or cannot be written.
    """
    names = {category["id"]: _text(category["name"], "class name") for category in content["categories"]}
    stems = _stems(content["images"])
    objects = _by_image(content, keeps_difficult=True)
    files = {}
    for image, stem in zip(content["images"], stems, strict=True):
        root = Element("annotation")
        SubElement(root, "filename").text = PurePosixPath(image["file_name"]).name
        size = SubElement(root, "size")
        SubElement(size, "width").text = str(int(image["width"]))
        SubElement(size, "height").text = str(int(image["height"]))
        for row in objects[image["id"]]:
            _add_object(root, row, names[row["category_id"]])
        indent(root)
        files[f"Annotations/{stem}.xml"] = tostring(root, encoding="unicode") + "\n"
    listable = not any(character.isspace() for stem in stems for character in stem)
    if listable:
        files[f"ImageSets/Main/{list_name}.txt"] = "".join(f"{stem}\n" for stem in stems)
    _write_tree(folder, files)

    order = range(len(stems)) if listable else sorted(range(len(stems)), key=stems.__getitem__)
    losses = _losses(content, objects, list(order), FLAGS)
    used = sorted({names[row["category_id"]] for rows in objects.values() for row in rows})
    if unused := [name for name in names.values() if name not in used]:
        losses.append(f"classes without objects: {', '.join(unused)}")
    if names != dict(enumerate(used, start=1)):
        losses.append("category ids and their order: read again, classes are numbered from 1 in alphabetical order")
    return losses


def write_yolo(folder: Path, content: Mapping[str, Any]) -> list[str]:
    """Write `labels/<picture>.txt` and `data.yaml` with the class names in the order of the category ids.

    Fractions have all their digits. Crowd regions are left out, as in `write_voc`. A picture without objects gets an
    empty file.

    Args, Returns, Raises: as `write_voc`; the pictures go into `images` in the folder. A box that lies so far
        outside of its picture that YOLO's readers refuse it is an error too.
    """
    categories = sorted(content["categories"], key=lambda row: row["id"])
    classes = {category["id"]: number for number, category in enumerate(categories)}
    stems = _stems(content["images"])
    objects = _by_image(content)
    files = {}
    for image, stem in zip(content["images"], stems, strict=True):
        lines = [_yolo_line(row, image, classes) for row in objects[image["id"]]]
        files[f"labels/{stem}.txt"] = "".join(f"{line}\n" for line in lines)
    names = {number: category["name"] for number, category in enumerate(categories)}
    files["data.yaml"] = yaml.safe_dump({"names": names}, allow_unicode=True, sort_keys=False)
    _write_tree(folder, files)

    losses = _losses(content, objects, sorted(range(len(stems)), key=stems.__getitem__), ())
    if list(classes) != list(range(1, len(classes) + 1)):
        losses.append("category ids: read again, classes are numbered from 1 in the same order")
    return losses


def _add_object(root: Element, row: Row, name: str) -> None:
    entry = SubElement(root, "object")
    SubElement(entry, "name").text = name
    for flag in FLAGS:
        if flag in row:
            SubElement(entry, flag).text = _text(str(row[flag]), flag)
    box = SubElement(entry, "bndbox")
    x, y, width, height = (Decimal(repr(value)) for value in row["bbox"])
    for tag, value in (("xmin", x), ("ymin", y), ("xmax", x + width), ("ymax", y + height)):
        SubElement(box, tag).text = format(value, "f")


def _yolo_line(row: Row, image: Row, classes: Mapping[int, int]) -> str:
    x, y, width, height = row["bbox"]
    fractions = (
        (x + width / 2) / image["width"],
        (y + height / 2) / image["height"],
        width / image["width"],
        height / image["height"],
    )
    words = [str(classes[row["category_id"]]), *(repr(value) for value in fractions)]
    read_line(words, f"annotation {row.get('id')} of {image['file_name']}", len(classes))  # refuses what it cannot hold
    return " ".join(words)


def _by_image(content: Mapping[str, Any], keeps_difficult: bool = False) -> dict[int, list[Row]]:
    """The annotations that are not crowd regions by image id, in their order; or those that VOC calls difficult too."""
    objects: dict[int, list[Row]] = defaultdict(list)
    for row in content["annotations"]:
        if not row.get("iscrowd") or (keeps_difficult and is_difficult(row)):
            objects[row["image_id"]].append(row)
    return objects


def is_difficult(row: Row) -> bool:
    """Whether an annotation is one of VOC's difficult objects, which are left out of account."""
    return bool(row.get("iscrowd")) and row.get("difficult") == 1


def _stems(images: Iterable[Row]) -> list[str]:
    """File names without suffix, which name the annotation files. Raises UserError where they cannot."""
    names = [_text(image["file_name"], "file name") for image in images]
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(f"{name}: the picture lies outside its folder, and so would its annotations; move it.")
    if len(set(names)) < len(names):
        repeated = next(name for place, name in enumerate(names) if name in names[:place])
        raise UserError(f"{repeated}: is listed as two images, and there can be one file of annotations; merge them.")
    return list(by_stem(names))


def _text(text: str, what: str) -> str:
    """The text, if a file can hold it. Raises UserError for control characters and spaces around it."""
    if text.isprintable() and text == text.strip():
        return text
    raise UserError(f"{what} {text!a}: has control characters or spaces around it; rename it first.")


def _write_tree(folder: Path, files: Mapping[str, str]) -> None:
    """Write all files or none."""
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder}: is there already and not empty; choose a new folder.")
        with whole_folder(folder) as partial:
            for name, text in files.items():
                path = partial / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            if folder.exists():
                folder.rmdir()  # it is still empty
    except OSError as error:
        raise UserError(f"{folder}: cannot write the annotations ({error.strerror or error}).") from None


def _losses(
    content: Mapping[str, Any], objects: Mapping[int, list[Row]], order: list[int], kept: Iterable[str]
) -> list[str]:
    """What a tree of files, without ids and masks, cannot hold.

    Args:
        objects: what was written of each image.
        order: the places of the images as they will be read again.
        kept: keys of annotations that the format has beyond a COCO file's.
    """
    images, annotations = content["images"], content["annotations"]
    image_ids = [images[place]["id"] for place in order]
    written = [row for image_id in image_ids for row in objects[image_id]]
    losses = []
    left_out = len(annotations) - len(written)
    difficult = sum(is_difficult(row) for row in annotations) - sum(is_difficult(row) for row in written)
    if crowds := left_out - difficult:
        losses.append(f"{crowds} crowd regions, which are left out")
    if difficult:
        losses.append(f"{difficult} difficult objects, which are left out")
    if image_ids != list(range(1, len(images) + 1)):
        losses.append("image ids: read again, images are numbered from 1")
    if [row.get("id") for row in written] != list(range(1, len(written) + 1)):
        losses.append("annotation ids: read again, annotations are numbered from 1")
    if masks := sum(bool(row.get("segmentation")) for row in written):
        losses.append(f"{masks} masks")
    if areas := sum(not _is_area_of_box(row) for row in written):
        losses.append(f"{areas} areas that are not the box's")
    known = {"segmentation", *_ANNOTATION_KEYS, *kept}
    for what, rows, keys in (
        ("images", images, _IMAGE_KEYS),
        ("annotations", written, known),
        ("categories", content["categories"], _CATEGORY_KEYS),
    ):
        if further := sorted({key for row in rows for key in row} - keys):
            losses.append(f"of {what}: {', '.join(further)}")
    if further := sorted(content.keys() - {"images", "annotations", "categories"}):
        losses.append(f"of the file: {', '.join(further)}")
    return losses


def _is_area_of_box(row: Row) -> bool:
    width, height = row["bbox"][2:]
    return row.get("area") is None or math.isclose(row["area"], abs(width * height), rel_tol=1e-6, abs_tol=1e-6)
