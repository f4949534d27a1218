"""Annotation files: what is refused, and in which words."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from detector.datasets.formats.open_dataset import open_dataset
from detector.errors import UserError
from detector.evaluation.ground_truth import ground_truth_of, read_ground_truth


def content(**change: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 4}, {"id": 9}],
        "categories": [{"id": 7, "name": "b"}, {"id": 3, "name": "a"}],
        "annotations": [{"image_id": 9, "category_id": 7, "bbox": [1, 2, 3, 4]}],
    } | change


def test_columns_from_file(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content()))
    truth = read_ground_truth(path)
    assert truth.categories.names == ["a", "b"]
    assert truth.image_ids.tolist() == [4, 9]
    assert (truth.image_of.tolist(), truth.category_of.tolist()) == ([9], [7])
    assert (truth.boxes.tolist(), truth.areas.tolist(), truth.iscrowd.tolist()) == ([[1, 2, 3, 4]], [12], [False])


def test_no_annotations() -> None:
    truth = read_ground_truth(content(annotations=[]))
    assert (truth.boxes.shape, truth.areas.shape) == ((0, 4), (0,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": None}, "has no list of objects named annotations"),
        ({"images": [{"id": 4}, {"id": 4}]}, "two images have the same id"),
        ({"images": [{"file_name": "a.png"}]}, r"images\[0\] has id None and file_name \'a\.png\'"),
        ({"categories": [{"id": 7}]}, r"categories\[0\] has id 7 and name None"),
        ({"annotations": [{"image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4]}]}, "annotation number 1: image_id 1"),
        (
            {"annotations": [{"image_id": 9, "category_id": 1, "bbox": [1, 2, 3, 4]}]},
            "annotation number 1 of image 9: category_id 1",
        ),
        (
            {"annotations": [{"image_id": 9, "category_id": 7, "bbox": []}]},
            r"annotation number 1 of image 9: bbox \[\]",
        ),
        (
            {"annotations": [{"image_id": 9, "category_id": 7, "bbox": [1, 2, 3, float("nan")]}]},
            "a coordinate is infinite or not a number",
        ),
        ({"annotations": ["x"]}, "has no list of objects named annotations"),
    ],
)
def test_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_ground_truth(content(**change))


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.json: cannot read the annotations \(No such file"):
        read_ground_truth(tmp_path / "absent.json")
    path = tmp_path / "torn.json"
    path.write_text('{"images": [')
    with pytest.raises(UserError, match=r"torn\.json: not a JSON file"):
        read_ground_truth(path)
    path.write_text("[]")
    with pytest.raises(UserError, match="not a COCO file"):
        read_ground_truth(path)


def test_a_dataset_is_scored_by_its_file_as_it_stands(tmp_path: Path) -> None:
    """Training drops the box without area; a score of record counts it as missed."""
    boxes = [[1, 2, 3, 4], [5, 5, 0, 0], [-2, 0, 9, 9]]
    annotations = [{"id": i, "image_id": 9, "category_id": 7, "bbox": box} for i, box in enumerate(boxes, start=1)]
    images = [{"id": i, "file_name": f"{i}.png", "height": 20, "width": 20} for i in (4, 9)]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content(annotations=annotations, images=images)))
    dataset = open_dataset("coco", path, tmp_path)
    assert len(dataset.to_coco()["annotations"]) == 2
    assert ground_truth_of(dataset).boxes.tolist() == boxes
    in_a_folder = dataclasses.replace(dataset, is_coco_file=False)
    assert ground_truth_of(in_a_folder).boxes.shape == (2, 4)


def test_what_scoring_takes_otherwise_than_it_stands_is_noted(tmp_path: Path) -> None:
    """pycocotools would score neither the box of negative extent nor, in any range of sizes, that of negative area."""
    annotations = [
        {"image_id": 9, "category_id": 7, "bbox": [8, 9, -3, -4]},
        {"image_id": 9, "category_id": 7, "bbox": [1, 2, 3, 4], "area": -12},
        {"image_id": 9, "category_id": 7, "segmentation": [[1, 1, 5, 1, 5, 9]]},
    ]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content(annotations=annotations)))
    truth = read_ground_truth(path)
    assert truth.boxes.tolist() == [[5, 5, 3, 4], [1, 2, 3, 4], [1, 1, 4, 8]]
    assert truth.areas.tolist() == [12, 12, 32]
    assert [note.split(":")[0] for note in truth.notes] == ["1 × bad-area", "1 × box-from-mask", "1 × swapped-corners"]
