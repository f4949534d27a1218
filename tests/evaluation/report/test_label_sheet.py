"""Candidates for errors of labels on disk: the table, the picture, and what cannot be read."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scored_sets import box, content, detection, object_, perfect

from detector.drawing.mosaic import GAP
from detector.evaluation.ground_truth import GroundTruth, read_ground_truth
from detector.evaluation.report.label_sheet import draw_label_errors, label_errors, write_label_errors
from detector.evaluation.report.worst import FALSE, MISSED, RIGHT, no_pictures, pictures_in
from detector.evaluation.results import Results, check_results

EDGE = 220


@pytest.fixture
def planted(tmp_path: Path) -> tuple[GroundTruth, Results]:
    """A missing label in picture 1 and a wrong one in picture 2, whose annotation has the id 77."""
    Image.fromarray(np.full((400, 400, 3), 99, np.uint8)).save(tmp_path / "1.png")
    Image.fromarray(np.full((400, 400, 3), 99, np.uint8)).save(tmp_path / "2.png")
    annotations = [object_(0), object_(1), object_(22, 5, 2, id=77)]
    detections = [*perfect(annotations[:2]), detection(box(3), 0.95), detection(box(22), 0.85, 9, 2)]
    truth = read_ground_truth(content(annotations, images=2))
    return truth, check_results(detections, truth)


def test_the_table_has_a_line_for_each(planted: tuple[GroundTruth, Results], tmp_path: Path) -> None:
    lines = write_label_errors(tmp_path / "out", *planted, pictures_in(tmp_path, planted[0]), prefix="val_")
    assert lines == [
        "labels to look at: 1 missing label, 1 wrong label, the surest first: "
        f"{tmp_path}/out/val_label_errors.jpg, {tmp_path}/out/val_label_errors.csv"
    ]
    with open(tmp_path / "out/val_label_errors.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    missing = {"kind": "missing label", "score": "0.9500", "file_name": "1.png", "image_id": "1", "annotation_id": ""}
    missing |= {"x": "120.0", "y": "0.0", "width": "20.0", "height": "20.0", "label": "", "suggested_label": "cat"}
    wrong = {"kind": "wrong label", "score": "0.8500", "file_name": "2.png", "image_id": "2", "annotation_id": "77"}
    wrong |= {"x": "80.0", "y": "80.0", "width": "20.0", "height": "20.0", "label": "dog", "suggested_label": "bird"}
    assert rows == [missing, wrong]


def test_the_picture_shows_each_with_its_surroundings(planted: tuple[GroundTruth, Results], tmp_path: Path) -> None:
    found = label_errors(*planted)
    sheet, problems = draw_label_errors(found, planted[0], pictures_in(tmp_path, planted[0]))
    assert sheet is not None
    assert problems == []
    assert sheet.shape[1] == 2 * (EDGE + GAP) + GAP
    left, right = sheet[:, : EDGE + GAP], sheet[:, EDGE + GAP :]
    assert [has(left, color) for color in (FALSE, MISSED, RIGHT)] == [True, False, False]
    assert [has(right, color) for color in (FALSE, MISSED, RIGHT)] == [False, True, False]


def has(picture: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((picture == color).all(axis=2).any())


def test_other_labels_in_sight_are_drawn(tmp_path: Path) -> None:
    Image.fromarray(np.full((400, 400, 3), 99, np.uint8)).save(tmp_path / "1.png")
    truth = read_ground_truth(content([object_(0)]))
    results = check_results([*perfect([object_(0)]), detection([24, 0, 20, 20])], truth)
    sheet, _ = draw_label_errors(label_errors(truth, results), truth, pictures_in(tmp_path, truth))
    assert sheet is not None
    assert has(sheet, RIGHT)


def test_what_cannot_be_read_is_said_and_nothing_of_before_stays(
    planted: tuple[GroundTruth, Results], tmp_path: Path
) -> None:
    truth, results = planted
    show_picture = pictures_in(tmp_path, truth)
    (tmp_path / "1.png").write_bytes(b"no picture")
    lines = write_label_errors(tmp_path, truth, results, show_picture)
    assert cv2.imread(str(tmp_path / "label_errors.jpg")).shape[1] == EDGE + 2 * GAP
    assert [line.startswith("not on the sheet: ") and "1.png" in line for line in lines] == [False, True]
    assert write_label_errors(tmp_path, truth, results, no_pictures)[0].endswith(f"first: {tmp_path}/label_errors.csv")
    assert not (tmp_path / "label_errors.jpg").exists()
    nothing = check_results([], truth)
    assert write_label_errors(tmp_path, truth, nothing, show_picture) == [
        f"no labels to look at: {tmp_path}/label_errors.csv is empty"
    ]
    assert len((tmp_path / "label_errors.csv").read_text().splitlines()) == 1
