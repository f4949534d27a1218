"""COCO JSON to a dataset."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from detector.categories import CategoryMap
from detector.datasets.dataset import Annotations, DetectionDataset, make_dataset
from detector.errors import UserError


def read_coco(annotations: str | Path, images: str | Path, drop_degenerate_boxes: bool = True) -> DetectionDataset:
    """Read a COCO detection file with arbitrary image, annotation and category ids.

    Args:
        annotations: the JSON file: `images` (id, file_name, and height and width where known), `annotations` (image_id,
            category_id, bbox [x, y, width, height], and iscrowd and area where known), `categories` (id, name).
        images: folder that the file names start at.
        drop_degenerate_boxes: see `make_dataset`.

    Raises:
        UserError: the file cannot be read, lacks something, or contradicts itself; the message names it.
    """
    source = str(annotations)
    contents = _read_json(Path(annotations))
    categories = CategoryMap.from_coco(_list(contents, "categories", source))
    image_rows = _list(contents, "images", source)
    box_rows = _list(contents, "annotations", source)
    try:
        image_ids = [int(row["id"]) for row in image_rows]
        paths = [str(Path(images) / row["file_name"]) for row in image_rows]
        sizes = [(int(row["height"]), int(row["width"])) if "height" in row else None for row in image_rows]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{source}: an entry of images is not usable ({_reason(error)}).") from None
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    label_of = {category.id: label for label, category in enumerate(categories.categories, start=1)}
    try:
        _check_known(Counter(row["image_id"] for row in box_rows), row_of, "image_id", source)
        _check_known(Counter(row["category_id"] for row in box_rows), label_of, "category_id", source)
        owners = np.array([row_of[row["image_id"]] for row in box_rows], dtype=np.int64)
        labels = np.array([label_of[row["category_id"]] for row in box_rows], dtype=np.int64)
        boxes = np.array([row["bbox"] for row in box_rows], dtype=np.float64).reshape(-1, 4)
        iscrowd = np.array([bool(row.get("iscrowd", 0)) for row in box_rows], dtype=bool)
        own_area = boxes[:, 2] * boxes[:, 3]
        areas = np.array([row.get("area", np.nan) for row in box_rows], dtype=np.float64)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{source}: an entry of annotations is not usable ({_reason(error)}).") from None
    boxes[:, 2:] += boxes[:, :2]
    found = Annotations(
        image_ids=image_ids,
        paths=paths,
        sizes=sizes,
        owners=owners,
        boxes=boxes,
        labels=labels,
        iscrowd=iscrowd,
        areas=np.where(np.isnan(areas), own_area, areas),
        box_names=[row.get("id", number) for number, row in enumerate(box_rows, start=1)],
    )
    return make_dataset(found, categories, source, drop_degenerate_boxes)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        contents = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot read the annotations ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a JSON file ({_reason(error)}).") from None
    if not isinstance(contents, dict):
        raise UserError(f"{path}: a COCO file is an object with images, annotations and categories.")
    return contents


def _list(contents: dict[str, Any], key: str, source: str) -> list[dict[str, Any]]:
    rows = contents.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(
            f"{source}: has no list of objects named {key!r}; a COCO file has images, annotations, categories."
        )
    if key == "categories" and not all({"id", "name"} <= row.keys() and isinstance(row["id"], int) for row in rows):
        raise UserError(f"{source}: every category needs a whole number as id, and a name.")
    return rows


def _check_known(counts: Counter[Any], known: dict[int, int], key: str, source: str) -> None:
    unknown = sorted((str(value) for value in counts if value not in known), key=str)
    if unknown:
        shown = ", ".join(unknown[:5]) + (", …" if len(unknown) > 5 else "")
        raise UserError(f"{source}: annotations name {key} {shown}, which the file does not list.")


def _reason(error: Exception) -> str:
    missing = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return " ".join(missing.split())[:200]
