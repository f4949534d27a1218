from pathlib import Path

import cv2
import folder_layouts as layouts
import numpy as np

from detector.commands.main import main
from detector.datasets.formats.open_dataset import open_dataset
from detector.drawing.mosaic import GAP, TILE, Row, draw_mosaic
from detector.evaluation.ground_truth_sheet import notable, write_ground_truth_sheet


def test_the_smallest_and_the_strangest_are_shown_once() -> None:
    sides = np.array([[50, 50], [4, 4], [52, 52], [51, 49], [5, 90], [6, 6], [49, 51], [90, 5], [8, 8], [50, 51.0]])
    boxes = np.hstack((np.full((10, 2), 7.0), 7 + sides))
    found = dict(notable(boxes))
    assert [place for place, why in found.items() if why == "smallest"] == [1, 5, 8]
    assert {place for place, why in found.items() if why == "strangest"} >= {4, 7}
    assert len([why for why in found.values() if why == "ordinary"]) == 2
    assert notable(np.array([[0, 0, 5.0, 5]])) == [(0, "smallest")]


def test_a_sheet_has_a_row_for_each_class_and_skips_what_cannot_be_read(tmp_path: Path) -> None:
    layouts.labels_file(tmp_path)
    dataset = open_dataset("coco", tmp_path / "labels.json", tmp_path / "data")
    assert write_ground_truth_sheet(dataset, tmp_path / "out/sheet.jpg") == []
    sheet = cv2.imread(str(tmp_path / "out/sheet.jpg"))
    assert sheet is not None
    assert sheet.shape[1] == 4 * (TILE + GAP) + GAP  # four objects of either class
    one_row = draw_mosaic([Row("x", [])]).shape[0]
    assert 1.8 * one_row < sheet.shape[0] < 2.2 * one_row
    (tmp_path / "data/300.png").write_bytes(b"no picture")
    problems = write_ground_truth_sheet(dataset, tmp_path / "out/sheet.jpg")
    assert len(problems) == 1
    assert "300.png" in problems[0]


def test_the_command_writes_a_sheet_of_each_split(tmp_path: Path) -> None:
    word = layouts.roboflow_voc(tmp_path / "set")
    assert main(["check-data", f"data={word}", "--sheet", str(tmp_path / "sheets")]) == 0
    assert sorted(path.name for path in (tmp_path / "sheets").iterdir()) == ["test.jpg", "train.jpg", "val.jpg"]
