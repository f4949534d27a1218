"""Small annotated sets: a sound one, and as large as COCO."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detector.datasets.columns import Columns

COCO_IMAGES = 118_287
COCO_ANNOTATIONS = 860_001


def sound_content() -> dict[str, Any]:
    """Ids with gaps and in no order; two pictures with objects, one without."""
    return {
        "images": [
            {"id": 900, "file_name": "z.png", "height": 20, "width": 30},
            {"id": 5, "file_name": "y/z.png", "height": 40, "width": 30},
            {"id": 6, "file_name": "empty.png", "height": 8, "width": 8},
        ],
        "annotations": [
            {"id": 11, "image_id": 5, "category_id": 90, "bbox": [1, 2, 3, 4], "area": 7.5, "iscrowd": 1},
            {"id": 4, "image_id": 5, "category_id": 3, "bbox": [0.5, 0, 10, 20], "area": 200, "iscrowd": 0},
            {"id": 8, "image_id": 900, "category_id": 7, "bbox": [0.1, 2.3, 0.2, 7.7]},
        ],
        "categories": [{"id": 7, "name": "seven"}, {"id": 3, "name": "three"}, {"id": 90, "name": "ninety"}],
    }


def write_pictures(folder: Path, content: dict[str, Any], seed: int = 0) -> None:
    """A PNG of noise for every image."""
    random = np.random.default_rng(seed)
    for image in content["images"]:
        path = folder / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (image["height"], image["width"], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


def write_json(path: Path, content: Any) -> Path:
    """As a file; returns its path."""
    path.write_text(json.dumps(content))
    return path


def write_large_file(path: Path) -> Path:
    """As many images, annotations and categories as COCO's train2017, with polygons of eight corners."""
    random = np.random.default_rng(0)
    sizes = random.integers(300, 641, (COCO_IMAGES, 2)).tolist()
    owners = np.sort(random.integers(0, COCO_IMAGES, COCO_ANNOTATIONS)).tolist()
    corners = random.uniform(0, 200, (COCO_ANNOTATIONS, 2)).round(2).tolist()
    edges = random.uniform(2, 99, (COCO_ANNOTATIONS, 2)).round(2).tolist()
    with open(path, "w") as file:
        images = [
            {"id": i, "file_name": f"{i:012d}.jpg", "height": h, "width": w, "license": 1, "coco_url": "http://example"}
            for i, (h, w) in enumerate(sizes)
        ]
        categories = [{"id": i, "name": f"class {i}"} for i in range(1, 81)]
        file.write(f'{{"images": {json.dumps(images)}, "categories": {json.dumps(categories)}, "annotations": [')
        for i, (owner, (x, y), (w, h)) in enumerate(zip(owners, corners, edges, strict=True)):
            row = {"id": i, "image_id": owner, "category_id": 1 + i % 80, "bbox": [x, y, w, h], "iscrowd": 0}
            left, middle, right, top, centre, bottom = x, x + w / 2, x + w, y, y + h / 2, y + h
            polygon = [left, top, middle, top, right, top, right, centre]
            polygon += [right, bottom, middle, bottom, left, bottom, left, centre]
            row |= {"area": w * h, "segmentation": [polygon]}
            file.write(("" if i == 0 else ", ") + json.dumps(row))
        file.write("]}")
    return path


def columns_of(
    image_ids: Sequence[int],
    names: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    owners: Any,
    corners: np.ndarray,
    classes: np.ndarray,
    iscrowd: np.ndarray,
    areas: np.ndarray,
    categories: Sequence[tuple[int, str]],
    source: str = "set.json",
) -> Columns:
    """Columns of a set that has been read without faults."""
    return Columns(
        source=source,
        image_ids=np.array(image_ids, np.int64),
        file_names=names,
        sizes=np.array(sizes, np.int64).reshape(-1, 2),
        image_places=range(len(names)),
        category_places=range(len(categories)),
        annotation_names=[100 + number for number in range(len(corners))],
        annotation_ids=None,
        owners=np.array(owners, np.int64),
        classes=classes,
        boxes=np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]),
        corners=corners,
        readable=np.ones(len(corners), bool),
        areas=areas,
        iscrowd=iscrowd,
        categories=categories,
    )
