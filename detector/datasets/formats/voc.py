"""Pascal VOC annotation trees (one XML file a picture) in the form of a COCO file's contents."""

import math
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from detector.categories import CategoryMap
from detector.datasets.fault_kinds import (
    BROKEN_PICTURE,
    MISSING_PICTURE,
    UNKNOWN_CATEGORY,
    UNREADABLE_FILE,
    UNREADABLE_OBJECT,
)
from detector.datasets.faults import Fault
from detector.datasets.formats.contents import Contents, Row
from detector.datasets.formats.numbers import read_number
from detector.datasets.formats.other_formats import refuse_other
from detector.datasets.formats.text_files import read_bytes
from detector.datasets.formats.voc_list import listed_stems
from detector.datasets.pictures.folders import by_stem, list_files, list_pictures
from detector.datasets.pictures.read import ImageError, image_size
from detector.errors import UserError, shown
from detector.structures import Size

# Of several bytes a character: what labelling programs write on Chinese, Japanese and Korean systems.
_ENCODING = re.compile(
    rb"""\s*<\?xml[^>]*encoding=["'](gb2312|gbk|gb18030|big5|shift[_-]jis|euc-jp|euc-kr|cp9\d\d)["']""", re.IGNORECASE
)
# What the format says of an object beyond class and box.
FLAGS = ("pose", "truncated", "occluded", "difficult")
_MARKS = {"": 0, "0": 0, "false": 0, "no": 0, "1": 1, "true": 1, "yes": 1}
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def voc_contents(annotations: str | Path, images: str | Path | None, categories: CategoryMap | None = None) -> Contents:
    """Read all files of a Pascal VOC tree; those that cannot be read, and objects that cannot, are faults.

    Corners are taken as they are: x1 = xmin, x2 = xmax, so that width = xmax − xmin and nothing is lost on the way
    back. (The VOC devkit counts pixels from 1 and includes the last; most programs that write this format do neither,
    and the files do not say.) Objects marked `difficult` are COCO's crowd regions (`iscrowd` 1, and `difficult` 1 stays
    beside it): neither trained on nor missed, and detections on them are not false. So VOC's devkit scores, and
    py-faster-rcnn and mmdetection train; detectron2 trains on them. Of COCO's marks it is `iscrowd` because pycocotools
    and those who train on COCO files go by it alone, and overwrite `ignore`; hotcoco does too. In one thing that is not
    VOC's rule: a detection is on a crowd by the share of its own area, so a small one within a large difficult object
    is left out of account, where the devkit, which goes by IoU, calls it false. `truncated` and `occluded` objects are
    objects like the others. Images are numbered 1, 2, … in the order of their files, annotations likewise. A picture is
    that of the same name as the XML file, in the same subfolder, or else the one its `filename` names.

    Args:
        annotations: the folder of XML files, searched with its subfolders; or a list of names such as
            `VOC2012/ImageSets/Main/train.txt`, whose XML files lie in `VOC2012/Annotations` or beside it.
        images: the folder of pictures, usually `JPEGImages`; None takes their names from the files.
        categories: labels for the class names, where other data has fixed them; None: those of the objects, in
            alphabetical order.

    Raises:
        UserError: there is no such tree, or two pictures would belong to one file.
    """
    files = _annotation_files(Path(annotations))
    pictures = {} if images is None else by_stem(list_pictures(images))
    faults: list[Fault] = []
    image_rows: list[Row] = []
    objects: list[Row] = []
    corners: list[tuple[float, ...]] = []
    names: list[str] = []
    known = None if categories is None else set(categories.names)
    for stem, path in files.items():
        try:
            root = _read_xml(path)
        except UserError as error:
            faults.append(Fault(UNREADABLE_FILE, detail=str(error)))
            continue
        image = _image(stem, path, root, pictures, images, len(image_rows) + 1, faults)
        image_rows.append(image)
        for number, (entry, box) in enumerate(_objects(root), start=1):
            try:
                row, box_corners = _object(entry, box, path)
            except UserError as error:
                faults.append(Fault(UNREADABLE_OBJECT, image["id"], image["file_name"], number, str(error)))
                continue
            if known is not None and row["category"] not in known:
                detail = f"{path}: class {row['category']!r} is not among {', '.join(sorted(known)[:20])}"
                faults.append(Fault(UNKNOWN_CATEGORY, image["id"], image["file_name"], number, detail))
                continue
            objects.append({"image_id": image["id"], **row})
            corners.append(box_corners)
            names.append(str(number))
    content = _content(image_rows, objects, categories)
    return Contents(str(annotations), content, faults, names, np.array(corners, np.float64).reshape(-1, 4))


def one_file(path: Path) -> str:
    """Why a file is not a set of Pascal VOC's, in a sentence."""
    if path.suffix.lower() == ".xml":
        return f"{path}: is the file of one picture; give the folder of all of them."
    return f"{path}: is no list of names (.txt); give one, or the folder of XML files."


def _annotation_files(annotations: Path) -> dict[str, Path]:
    """The XML files by their names without `.xml`, below their folder. Raises UserError as `voc_contents` does."""
    if annotations.is_file() and annotations.suffix.lower() != ".txt":
        raise UserError(one_file(annotations))
    if annotations.suffix.lower() != ".txt":
        return {name[: -len(".xml")]: annotations / name for name in list_files(annotations, (".xml",))}
    folder, stems = listed_stems(annotations)
    return {stem: folder / f"{stem}.xml" for stem in stems}


def _read_xml(path: Path) -> Element:
    """The element `annotation` of an XML file, read without trusting it; its tags in small letters, without namespaces.

    Raises:
        UserError: the file is missing, no XML, or no annotation of one picture.
    """
    try:
        root = fromstring(_as_text(read_bytes(path, "annotations")))
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        if isinstance(error, UserError):
            raise
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not an XML file of annotations ({reason}). Replace or remove it.") from None
    for entry in root.iter():
        if isinstance(entry.tag, str):
            entry.tag = entry.tag.rpartition("}")[2].lower()
    pictures = list(root.iter("annotation"))
    if len(pictures) != 1:
        count = f"it has {len(pictures)} elements <annotation> instead of one, and begins with <{root.tag}>"
        raise UserError(refuse_other(path) or f"{path}: not a Pascal VOC file: {count}. Convert it, or remove it.")
    return pictures[0]


def _as_text(data: bytes) -> bytes | str:
    """An XML file as text if it says that it is in one of the encodings that the parser lacks; others as they are.

    Raises:
        ValueError: it is not in the encoding that it says.
    """
    declared = _ENCODING.match(data)
    return data.decode(declared[1].decode()) if declared else data


def _image(
    stem: str,
    path: Path,
    root: Element,
    pictures: dict[str, str],
    images: str | Path | None,
    number: int,
    faults: list[Fault],
) -> Row:
    """The entry of an image. Its size is the stated one, or else the picture's own."""
    named = PurePosixPath((root.findtext("filename") or "").replace("\\", "/")).name
    row: Row = {"id": number}
    size = _stated_size(root)
    if images is None:
        row["file_name"] = _beside(stem, named or PurePosixPath(stem).name)
    else:
        picture = pictures.get(stem) or pictures.get(_beside(stem, PurePosixPath(named).stem))
        row["file_name"] = picture or _beside(stem, named or PurePosixPath(stem).name)
        try:
            if picture is None:
                detail = f"{path}: its picture {named or stem} is not in {images}. Add it or remove the file."
                faults.append(Fault(MISSING_PICTURE, number, row["file_name"], None, detail, number - 1))
            elif size is None:
                size = image_size(Path(images, picture))
        except ImageError as error:
            faults.append(Fault(BROKEN_PICTURE, number, row["file_name"], None, str(error), number - 1))
    return row if size is None else row | {"height": size[0], "width": size[1]}


def _beside(stem: str, name: str) -> str:
    return str(PurePosixPath(stem).parent / name)


def _stated_size(root: Element) -> Size | None:
    """(height, width) of an annotation file; None where they are missing or nonsense."""
    height, width = (_whole_number(root, f"size/{edge}") for edge in ("height", "width"))
    return (height, width) if height and width else None


def _whole_number(root: Element, tag: str) -> int:
    """0 where a size is missing or nonsense; then the picture itself is asked."""
    text = (root.findtext(tag) or "").strip()
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def _objects(root: Element) -> Iterator[tuple[Element, Element | None]]:
    """Each box, with the object that has it; boxes of an object's parts are not objects.

    An object without a box comes once, with None; a box that no object has comes with itself.
    """
    boxed: set[Element] = {box for part in root.iter("part") for box in part.iter("bndbox")}
    for entry in root.iter("object"):
        boxes = entry.findall("bndbox")
        boxed.update(boxes)
        yield from ((entry, box) for box in boxes)
        if not boxes:
            yield entry, None
    yield from ((box, box) for box in root.iter("bndbox") if box not in boxed)


def _object(entry: Element, box: Element | None, path: Path) -> tuple[Row, tuple[float, ...]]:
    """An annotation whose class is under `category`, and its corners (x1, y1, x2, y2)."""
    if entry is box:
        raise UserError(f"{path}: a bndbox is outside any object, so its class is not known. Put it into one.")
    names = {text for name in entry.findall("name") if (text := (name.text or "").strip())}
    if len(names) != 1:
        listed = f"the names {', '.join(sorted(names))}" if names else "no name"
        raise UserError(f"{path}: an object has {listed}. Give it one, or remove the object.")
    x1, y1, x2, y2 = (_number(box, corner, path) for corner in _CORNERS)
    width, height = _difference(x2, x1), _difference(y2, y1)
    area = abs(width * height)
    row: Row = {"category": names.pop(), "bbox": [x1, y1, width, height], "area": area, "iscrowd": _mark(entry, path)}
    for flag in FLAGS:  # kept as further keys, so that nothing is lost on the way back
        text = (entry.findtext(flag) or "").strip()
        if text:
            row[flag] = _MARKS[text.lower()] if flag == "difficult" else int(text) if text in ("0", "1") else text
    return row, (x1, y1, x2, y2)


def _mark(entry: Element, path: Path) -> int:
    """1 for an object that is `difficult`, else 0. Raises UserError where it is neither."""
    text = (entry.findtext("difficult") or "").strip()
    if text.lower() not in _MARKS:
        raise UserError(f"{path}: an object has difficult {shown(text)}. Write 1, and it is left out of account, or 0.")
    return _MARKS[text.lower()]


def _number(box: Element | None, tag: str, path: Path) -> float:
    texts = [] if box is None else [(element.text or "").strip() for element in box.findall(tag)]
    if len(texts) != 1 or not texts[0]:
        fault = f"{len(texts)} times bndbox/{tag}" if len(texts) > 1 else f"no bndbox/{tag}"
        raise UserError(f"{path}: an object has {fault}. Correct it or remove the object.")
    try:
        return read_number(texts[0])
    except ValueError:
        raise UserError(
            f"{path}: bndbox/{tag} is {texts[0][:80]!r}, which is not a number. Correct or remove the object."
        ) from None


def _difference(end: float, start: float) -> float:
    """`end` − `start` as one would write it: 0.3 − 0.1 is 0.2, so that decimal coordinates survive the way back."""
    if not (math.isfinite(end) and math.isfinite(start)):
        return end - start
    return float(Decimal(repr(end)) - Decimal(repr(start)))


def _content(images: list[Row], objects: list[Row], categories: CategoryMap | None) -> dict[str, list[Row]]:
    if categories is None:
        categories = CategoryMap.from_names(sorted({row["category"] for row in objects}))
    ids = {category.name: category.id for category in categories.categories}
    annotations = [
        {"id": number, "category_id": ids[row.pop("category")], **row} for number, row in enumerate(objects, start=1)
    ]
    return {"images": images, "annotations": annotations, "categories": categories.to_coco()}
