"""YOLO annotation trees (one text file a picture, coordinates as fractions) in the form of a COCO file's contents."""

from pathlib import Path

import numpy as np

from detector.datasets.fault_kinds import (
    BROKEN_PICTURE,
    LABELS_WITHOUT_PICTURE,
    UNREAD_FILES,
    UNREADABLE_FILE,
    UNREADABLE_OBJECT,
)
from detector.datasets.faults import Fault
from detector.datasets.formats.class_names import find_class_file, read_classes
from detector.datasets.formats.contents import Contents, Row
from detector.datasets.formats.picture_list import is_picture_list
from detector.datasets.formats.text_files import lines_of, read_text
from detector.datasets.formats.yolo_line import Line, ambiguous_poses, read_line
from detector.datasets.formats.yolo_splits import named_split
from detector.datasets.formats.yolo_tree import read_trees
from detector.datasets.pictures.read import ImageError, image_size
from detector.errors import UserError
from detector.structures import Size

# Fractions with their usual six digits say a position to a thousandth of a pixel. Rounding at a billionth takes away
# nothing but the traces of the division, so that coordinates survive the way back.
DECIMALS = 9


def yolo_contents(annotations: str | Path, images: Path) -> Contents:
    """Read all text files of a YOLO tree; lines that cannot be read are faults.

    For `images/a/b.jpg` there is the file `labels/a/b.txt`, one object a line. A line is `class x_center y_center width
    height` in fractions of the upright picture's width and height, which keypoints may follow where the `kpt_shape` of
    data.yaml says so; or `class x1 y1 x2 y2 x3 y3 …`, a polygon, of which the enclosing box is taken. Class c (from 0)
    gets the category id c + 1. A picture without a text file has no objects. Sizes are read from the headers of all
    pictures. Images are numbered 1, 2, … in the order of their names, or of the list; annotations likewise.

    Args:
        annotations: the labels folder, with `data.yaml` or `classes.txt` in it or up to three folders above; or one of
            these files itself, with the labels where the path of `images` has `labels` in the place of `images`, in a
            folder `labels` beside the file, or among the pictures; or a list of pictures (`train.txt`), of which only
            these are read, with the class names beside it or above; or a split of the file (`data.yaml#train`), of
            whose folders and lists, joined in their order, the pictures are read, with the labels of each beside it in
            the same way.
        images: the folder of pictures, searched with its subfolders; of `data.yaml#train` any folder around them all,
            where their file names start.

    Raises:
        UserError: there is no such tree or no list of names, no picture has a text file, two pictures would share one,
            or a picture is in two places of a split.
    """
    source = Path(annotations)
    named = named_split(source)
    is_list = is_picture_list(source)
    # A YAML file that only has the names may have lists of pictures as splits.
    names_alone = named is not None or is_list or source.is_dir()
    names_at = named[0] if named is not None else source.parent if is_list else source
    categories, keypoints = read_classes(find_class_file(names_at), names_alone)
    tree = read_trees(source, images)
    texts = tree.texts
    faults: list[Fault] = []
    image_rows: list[Row] = []
    lines: list[tuple[int, str, Size, Line]] = []  # image id, words for messages, size of the picture, what it says
    for number, (file_name, path) in enumerate(texts.items(), start=1):
        image: Row = {"id": number, "file_name": file_name}
        image_rows.append(image)
        try:
            size = image_size(images / file_name)
        except ImageError as error:
            detail = f"{error} Its boxes, which are fractions of its size, cannot be read either."
            faults.append(Fault(BROKEN_PICTURE, number, file_name, None, detail, number - 1))
            continue
        image |= {"height": size[0], "width": size[1]}
        for line, words in _lines(path, image, faults):
            try:
                read = read_line(words, f"{path} line {line}", len(categories), keypoints)
            except UserError as error:
                faults.append(Fault(UNREADABLE_OBJECT, number, file_name, f"line {line}", str(error)))
            else:
                lines.append((number, f"line {line}", size, read))
    if keypoints is None and ambiguous_poses([read for *_, read in lines]):
        faults += [_ambiguous(texts, image_rows, *entry) for entry in lines if len(entry[3].values) > 4]
        lines = [entry for entry in lines if len(entry[3].values) == 4]
    faults += [Fault(LABELS_WITHOUT_PICTURE, image=text) for text in tree.strays]
    faults += [Fault(UNREAD_FILES, detail=line) for line in tree.unread]
    return _contents(str(annotations), image_rows, categories.to_coco(), lines, faults)


def _contents(
    source: str,
    images: list[Row],
    categories: list[Row],
    lines: list[tuple[int, str, Size, Line]],
    faults: list[Fault],
) -> Contents:
    annotations: list[Row] = []
    fractions = np.array([read.corners for *_, read in lines], np.float64).reshape(-1, 4)
    scales = np.array([(size[1], size[0]) * 2 for _, _, size, _ in lines], np.float64).reshape(-1, 4)
    corners = fractions * scales
    with np.errstate(invalid="ignore", over="ignore"):
        extents = (fractions[:, 2:] - fractions[:, :2]) * scales[:, :2]
    boxes = np.hstack([corners[:, :2], extents]).tolist()
    for (image_id, _, _, read), box in zip(lines, boxes, strict=True):
        x, y, width, height = (round(value, DECIMALS) for value in box)
        row = {"id": len(annotations) + 1, "image_id": image_id, "category_id": read.label + 1}
        annotations.append(row | {"bbox": [x, y, width, height], "area": abs(width * height), "iscrowd": 0})
    content = {"images": images, "annotations": annotations, "categories": categories}
    return Contents(source, content, faults, [name for _, name, _, _ in lines], corners)


def _lines(path: Path, image: Row, faults: list[Fault]) -> list[tuple[int, list[str]]]:
    """The numbers of the lines of a picture's text file, and their words; none where there is no file."""
    if not path.is_file():
        return []
    try:
        text = read_text(path)
    except UserError as error:
        faults.append(Fault(UNREADABLE_FILE, image["id"], image["file_name"], None, str(error)))
        return []
    return [(number, line.split()) for number, line in enumerate(lines_of(text), start=1) if line.strip()]


def _ambiguous(texts: dict[str, Path], images: list[Row], image_id: int, name: str, *_rest: object) -> Fault:
    file_name = images[image_id - 1]["file_name"]
    reason = (
        f"{texts[file_name]} {name}: may be a polygon, or a box and its keypoints; write kpt_shape: [points, 2] (or 3, "
        "with visibility) into data.yaml, or kpt_shape: null where there are none."
    )
    return Fault(UNREADABLE_OBJECT, image_id, file_name, name, reason)
