"""A Pascal VOC tree in the form of a COCO file's contents, unchecked."""

import math
from decimal import Decimal
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

from detector.datasets.checks.contents import Contents, Row
from detector.datasets.checks.faults import UNREADABLE_FILE, UNREADABLE_OBJECT, Fault
from detector.datasets.formats.voc import FLAGS, annotation_files, find_picture, read_object, read_xml, stated_size
from detector.datasets.pictures.folders import IMAGE_SUFFIXES, by_stem, list_files
from detector.errors import UserError


def voc_contents(annotations: str | Path, images: str | Path | None) -> Contents:
    """Read all files of a tree; those that cannot be read, and objects that cannot, are faults.

    Images are numbered 1, 2, … in the order of their files, annotations likewise, categories in alphabetical order.

    Args:
        annotations: as `detector.datasets.formats.voc.read_voc` takes it.
        images: folder of the pictures; None takes their names from the files.

    Raises:
        UserError: there is no such tree, or two pictures would belong to one file.
    """
    folder, stems = annotation_files(Path(annotations))
    pictures = {} if images is None else by_stem(list_files(images, IMAGE_SUFFIXES))
    found: list[Fault] = []
    image_rows: list[Row] = []
    objects: list[Row] = []
    names: list[str] = []
    for stem in stems:
        path = folder / f"{stem}.xml"
        try:
            root = read_xml(path)
        except UserError as error:
            found.append(Fault(UNREADABLE_FILE, detail=str(error)))
            continue
        image: Row = {"id": len(image_rows) + 1, "file_name": _file_name(stem, root, pictures, folder, images)}
        size = stated_size(root)
        image_rows.append(image if size is None else image | {"height": size[0], "width": size[1]})
        for number, entry in enumerate(root.findall("object"), start=1):
            try:
                objects.append({"image_id": image["id"], **_object(entry, path)})
            except UserError as error:
                found.append(Fault(UNREADABLE_OBJECT, image["id"], image["file_name"], number, str(error)))
            else:
                names.append(str(number))
    return Contents(str(annotations), _content(image_rows, objects), found, names)


def _content(images: list[Row], objects: list[Row]) -> dict[str, list[Row]]:
    ids = {name: number for number, name in enumerate(sorted({row["category"] for row in objects}), start=1)}
    annotations = [
        {"id": number, "category_id": ids[row.pop("category")], **row} for number, row in enumerate(objects, start=1)
    ]
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _file_name(stem: str, root: Element, pictures: dict[str, str], folder: Path, images: str | Path | None) -> str:
    named = root.findtext("filename") or ""
    if images is not None:
        try:
            return find_picture(stem, named, pictures, folder, images)
        except UserError:  # checks that look at pictures will not find it either, and say so
            pass
    return str(PurePosixPath(stem).parent / (PurePosixPath(named.replace("\\", "/")).name or PurePosixPath(stem).name))


def _object(entry: Element, path: Path) -> Row:
    name, (x1, y1, x2, y2) = read_object(entry, path)
    width, height = difference(x2, x1), difference(y2, y1)
    row: Row = {"category": name, "bbox": [x1, y1, width, height], "area": abs(width * height), "iscrowd": 0}
    for flag in FLAGS:  # kept as further keys, so that nothing is lost on the way back
        text = (entry.findtext(flag) or "").strip()
        if text:
            row[flag] = int(text) if text in ("0", "1") else text
    return row


def difference(end: float, start: float) -> float:
    """`end` − `start` as one would write it: 0.3 − 0.1 is 0.2, so that decimal coordinates survive the way back."""
    if not (math.isfinite(end) and math.isfinite(start)):
        return end - start
    return float(Decimal(repr(end)) - Decimal(repr(start)))
