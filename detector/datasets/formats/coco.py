"""COCO annotation files (instances JSON) to a dataset; ids of images and categories may be any whole numbers."""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from detector.categories import CategoryMap
from detector.datasets.dataset import Annotations, DetectionDataset, make_dataset
from detector.errors import UserError, shown
from detector.structures import Size

Row = dict[str, Any]
TABLES = ("images", "annotations", "categories")


def read_coco(annotations: str | Path, images: str | Path, drop_degenerate_boxes: bool = True) -> DetectionDataset:
    """Read a COCO annotation file.

    Labels follow the order of category ids. An image needs `id` and `file_name`, an annotation `image_id`,
    `category_id` and `bbox` [x, y, width, height]. A missing `area` is the box's, a missing `iscrowd` 0.

    Args:
        annotations: the JSON file.
        images: folder that the file names start at.
        drop_degenerate_boxes: see `make_dataset`.

    Raises:
        UserError: the file is missing or not COCO JSON, or an entry in it is wrong; the message names the entry.
    """
    source = str(annotations)
    content = read_content(source)
    image_rows, box_rows, category_rows = (content[table] for table in TABLES)
    categories = _categories(category_rows, source)
    category_ids = np.array([category.id for category in categories.categories], np.int64)
    image_ids = _own_ids(image_rows, "images", source)
    boxes = _boxes(box_rows, source)
    found = Annotations(
        image_ids=image_ids,
        names=_file_names(image_rows, source),
        sizes=_sizes(image_rows, source),
        owners=_positions(box_rows, "image_id", image_ids, "images", source),
        boxes=boxes,
        labels=_positions(box_rows, "category_id", category_ids, "categories", source) + 1,
        iscrowd=np.array([bool(row.get("iscrowd")) for row in box_rows], bool),
        areas=_areas(box_rows, boxes),
        box_names=[row.get("id", f"number {number}") for number, row in enumerate(box_rows, start=1)],
    )
    return make_dataset(found, categories, source, images, drop_degenerate_boxes)


def read_content(source: str, keep_masks: bool = False) -> dict[str, Any]:
    """Parse a COCO file whose entries are yet to be checked.

    Args:
        keep_masks: keep `segmentation`, which takes most of the memory.

    Returns:
        The file's contents; its images, annotations and categories are lists of objects.

    Raises:
        UserError: the file is missing or not JSON, or lacks one of the three lists.
    """
    try:
        with _without_garbage_collection():
            content = json.loads(Path(source).read_bytes(), object_hook=None if keep_masks else _without_mask)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, OSError):
            raise UserError(f"{source}: cannot read the annotations ({error.strerror}). Check the path.") from None
        reason = " ".join(str(error).split())
        raise UserError(f"{source}: not a JSON file ({reason}). Is it complete, and the right one?") from None
    if not isinstance(content, dict):
        raise UserError(f"{source}: not a COCO file, which is an object with images, annotations and categories.")
    for table in TABLES:
        rows = content.get(table)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UserError(f"{source}: has no list of objects named {table}; a COCO file has {', '.join(TABLES)}.")
    return content


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Millions of new containers make the collector search them all again and again; none of them is garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _without_mask(entry: Row) -> Row:
    # Polygons take most of the memory of a parsed file, and only boxes are wanted.
    entry.pop("segmentation", None)
    return entry


def _column(rows: list[Row], key: str, table: str, source: str) -> list[Any]:
    try:
        return [row[key] for row in rows]
    except KeyError:
        place = next(place for place, row in enumerate(rows) if key not in row)
        raise UserError(f"{source}: {_describe(rows, place, table)} has no {key}. Add it.") from None


def _describe(rows: list[Row], place: int, table: str) -> str:
    """`annotations[12] (id 4711)`."""
    name = f" (id {shown(rows[place]['id'])})" if "id" in rows[place] else ""
    return f"{table}[{place}]{name}"


def _whole_numbers(rows: list[Row], key: str, table: str, source: str) -> np.ndarray:
    """[N] int64. Numbers such as 12.0, as written by programs that know only floats, will do."""
    values = _column(rows, key, table, source)
    for place, value in enumerate(values):
        is_whole = type(value) is int or (type(value) is float and value.is_integer())
        if not is_whole or abs(value) >= 2**63:
            raise UserError(
                f"{source}: {_describe(rows, place, table)} has {key} {shown(value)}, which is not a whole number. "
                "Mend it."
            )
    return np.array(values, np.int64)


def _own_ids(rows: list[Row], table: str, source: str) -> np.ndarray:
    ids = _whole_numbers(rows, "id", table, source)
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        raise UserError(
            f"{source}: id {unique[counts > 1][0]} stands {counts.max()} times in {table}; ids must be unique."
        )
    return ids


def _categories(rows: list[Row], source: str) -> CategoryMap:
    if not rows:
        raise UserError(f"{source}: lists no categories; give each class an id and a name.")
    ids = _own_ids(rows, "categories", source)
    names = _column(rows, "name", "categories", source)
    return CategoryMap.from_coco({"id": i, "name": name} for i, name in zip(ids.tolist(), names, strict=True))


def _file_names(rows: list[Row], source: str) -> list[str]:
    names = _column(rows, "file_name", "images", source)
    for place, name in enumerate(names):
        if not isinstance(name, str) or not name or _has_half_characters(name):
            raise UserError(f"{source}: {_describe(rows, place, 'images')} has file_name {shown(name)}. Mend it.")
    return names


def _has_half_characters(name: str) -> bool:
    r"""JSON can write the halves of a character alone (\ud800), which no file name has."""
    return not name.isascii() and any("\ud800" <= character <= "\udfff" for character in name)


def _sizes(rows: list[Row], source: str) -> list[Size | None]:
    sizes: list[Size | None] = []
    for place, row in enumerate(rows):
        height, width = row.get("height"), row.get("width")
        if height is None or width is None:
            sizes.append(None)
            continue
        for edge in (height, width):
            if not isinstance(edge, (int, float)) or not 0 < edge < 2**31 or edge != int(edge):
                raise UserError(
                    f"{source}: {_describe(rows, place, 'images')} has height {shown(height)} and width "
                    f"{shown(width)}; give whole pixels, or neither."
                )
        sizes.append((int(height), int(width)))
    return sizes


def _positions(rows: list[Row], key: str, known: np.ndarray, table: str, source: str) -> np.ndarray:
    """Where the id that each annotation names stands among the known ones."""
    wanted = _whole_numbers(rows, key, "annotations", source)
    if len(wanted) == 0:
        return wanted
    order = np.argsort(known)
    ranks = np.searchsorted(known, wanted, sorter=order)
    places = order[np.minimum(ranks, len(known) - 1)] if len(known) else np.zeros_like(wanted)
    unknown = known[places] != wanted if len(known) else np.ones(len(wanted), bool)
    if unknown.any():
        first = int(np.argmax(unknown))
        raise UserError(
            f"{source}: {_describe(rows, first, 'annotations')} names {key} {wanted[first]}, which is not among "
            f"{table}, annotation 1 of {int(unknown.sum())} like it. Add it there, or remove them."
        )
    return places


def _boxes(rows: list[Row], source: str) -> np.ndarray:
    """[B, 4] float64 xyxy. Whether they are finite is checked with the boxes of all formats."""
    values = _column(rows, "bbox", "annotations", source)
    for place, value in enumerate(values):
        if not isinstance(value, list) or len(value) != 4 or not all(_is_number(number) for number in value):
            raise UserError(
                f"{source}: {_describe(rows, place, 'annotations')} has bbox {shown(value)}, which is not four numbers "
                "[x, y, width, height]. Mend or remove it."
            )
    boxes = np.array(values, np.float64).reshape(-1, 4)
    with np.errstate(invalid="ignore"):  # infinity minus infinity; refused later
        boxes[:, 2:] += boxes[:, :2]
    return boxes


def _areas(rows: list[Row], boxes: np.ndarray) -> np.ndarray:
    given = [row.get("area") for row in rows]
    areas = np.array([value if _is_number(value) else np.nan for value in given], np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        own = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.where(np.isnan(areas), own, areas)


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)
