"""A YOLO tree in the form of a COCO file's contents, unchecked."""

from pathlib import Path, PurePosixPath

from detector.datasets.checks.contents import Contents, Row
from detector.datasets.checks.faults import (
    BROKEN_PICTURE,
    LABELS_WITHOUT_PICTURE,
    UNREADABLE_FILE,
    UNREADABLE_OBJECT,
    Fault,
)
from detector.datasets.formats.yolo import find_categories, labels_folder, read_line, read_text
from detector.datasets.pictures.folders import IMAGE_SUFFIXES, by_stem, list_files
from detector.datasets.pictures.read import ImageError, image_size
from detector.errors import UserError
from detector.structures import Size

# Fractions with their usual six digits say a position to a thousandth of a pixel. Rounding at a billionth takes away
# nothing but the traces of the division, so that coordinates survive the way back.
DECIMALS = 9


def yolo_contents(annotations: str | Path, images: Path) -> Contents:
    """Read all text files of a tree; lines that cannot be read are faults.

    Images are numbered 1, 2, … in the order of their names, annotations likewise, categories as in the list of names,
    from 1. Sizes come from the headers of the pictures.

    Args:
        annotations: as `detector.datasets.formats.yolo.read_yolo` takes it.
        images: folder of the pictures.

    Raises:
        UserError: there is no such tree or no list of names, or two pictures would share a text file.
    """
    source = Path(annotations)
    classes = find_categories(source)
    folder = labels_folder(source, images)
    pictures = list_files(images, IMAGE_SUFFIXES)
    stems = by_stem(pictures)
    found: list[Fault] = []
    image_rows: list[Row] = []
    annotation_rows: list[Row] = []
    names: list[str] = []
    for number, file_name in enumerate(pictures, start=1):
        image: Row = {"id": number, "file_name": file_name}
        image_rows.append(image)
        try:
            size = image_size(images / file_name)
        except ImageError as error:
            detail = f"{error} Its boxes, which are fractions of its size, cannot be read either."
            found.append(Fault(BROKEN_PICTURE, number, file_name, None, detail, number - 1))
            continue
        image |= {"height": size[0], "width": size[1]}
        path = folder / PurePosixPath(file_name).with_suffix(".txt")
        for line, words in _lines(path, image, found):
            try:
                row = _object(read_line(words, f"{path} line {line}", len(classes)), size)
            except UserError as error:
                found.append(Fault(UNREADABLE_OBJECT, number, file_name, f"line {line}", str(error)))
                continue
            annotation_rows.append({"id": len(annotation_rows) + 1, "image_id": number, **row})
            names.append(f"line {line}")
    found += _without_picture(source, folder, stems)
    content = {"images": image_rows, "annotations": annotation_rows, "categories": classes.to_coco()}
    return Contents(str(annotations), content, found, names)


def _lines(path: Path, image: Row, found: list[Fault]) -> list[tuple[int, list[str]]]:
    if not path.is_file():
        return []
    try:
        text = read_text(path)
    except UserError as error:
        found.append(Fault(UNREADABLE_FILE, image["id"], image["file_name"], None, str(error)))
        return []
    return [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


def _object(values: tuple[float, ...], size: Size) -> Row:
    label, x1, y1, x2, y2 = values
    height, width = size
    corners = (x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height)
    x, y, w, h = (round(value, DECIMALS) for value in corners)
    return {"category_id": int(label) + 1, "bbox": [x, y, w, h], "area": abs(w * h), "iscrowd": 0}


def _without_picture(source: Path, folder: Path, pictures: dict[str, str]) -> list[Fault]:
    texts = [name for name in list_files(folder, (".txt",)) if (folder / name).resolve() != source.resolve()]
    lists = ("classes.txt", "README.txt", "README.roboflow.txt", "README.dataset.txt")
    return [
        Fault(LABELS_WITHOUT_PICTURE, image=name)
        for name in texts
        if str(PurePosixPath(name).with_suffix("")) not in pictures and PurePosixPath(name).name not in lists
    ]
