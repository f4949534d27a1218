"""Boxes in another form than pixels as [x, y, width, height] are known by their numbers."""

import json
from pathlib import Path
from typing import Any

import folder_layouts as layouts
import pytest

from detector.datasets.checks.examine import check_before_training, examine
from detector.datasets.formats.open_dataset import open_dataset
from detector.errors import UserError
from detector.evaluation.ground_truth import read_ground_truth


def written(tmp_path: Path, boxes: list[list[Any]]) -> Path:
    """A COCO file of as many pictures, with a box each."""
    layouts.coco(tmp_path / "a.json", range(len(boxes)))
    content = json.loads((tmp_path / "a.json").read_text())
    for row, box in zip(content["annotations"], boxes, strict=True):
        row["bbox"] = box
    (tmp_path / "a.json").write_text(json.dumps(content))
    return tmp_path / "a.json"


def test_fractions_are_refused_in_training_and_scoring(tmp_path: Path) -> None:
    path = written(tmp_path, [[0.1, 0.2, 0.5, 0.25], [0, 0.5, 1, 0.5]])
    with pytest.raises(UserError, match=r"every box lies between 0 and 1.*annotation 1.*multiply x and width"):
        open_dataset("coco", path, tmp_path)
    with pytest.raises(UserError, match=r"every box lies between 0 and 1"):
        read_ground_truth(path)


@pytest.mark.parametrize("other", [[0.1, 0.2, 0.5, 1.5], [0, 0, 1, 1]])
def test_small_boxes_are_no_fractions(tmp_path: Path, other: list[float]) -> None:
    assert len(open_dataset("coco", written(tmp_path, [[0.1, 0.2, 0.5, 0.25], other]), tmp_path).boxes) == 2


def test_corners_in_the_place_of_centres_are_said(tmp_path: Path) -> None:
    layouts.yolo_without_yaml(tmp_path)
    for n, line in enumerate(("0.2 0.3 0.6 0.8", "0.5 0.1 0.9 0.6", "0.1 0.1 0.4 0.9", "0.3 0.2 0.5 0.7")):
        (tmp_path / f"labels/train/{n}.txt").write_text(f"0 {line}\n")
    for split, faults in (("train", 1), ("val", 0)):
        places = tmp_path / "labels" / split, tmp_path / "images" / split
        warnings = check_before_training(open_dataset("yolo", *places), None)
        assert sum("corners-as-centre: " in line for line in warnings) == faults
        examined = examine("yolo", *places, lambda pictures, _total: pictures)
        assert sum(fault.kind.name == "corners-as-centre" for fault in examined.faults) == faults


def test_corners_in_the_place_of_extents_are_said(tmp_path: Path) -> None:
    corners = [[10, 20, 40, 50], [30, 5, 60, 64], [1, 2, 20, 30]]
    warnings = check_before_training(open_dataset("coco", written(tmp_path, corners), tmp_path), None)
    assert any("corners-as-box: " in line and "image 0" in line for line in warnings)
    for sound in ([[10, 20, 30, 30], [30, 5, 30, 59], [1, 2, 63, 62.5]], [*corners[:2], [40, 2, 20, 30]]):
        warnings = check_before_training(open_dataset("coco", written(tmp_path, sound), tmp_path), None)
        assert not any("corners-as-box" in line for line in warnings)
