"""Detections that name their pictures and classes."""

import json
from pathlib import Path
from typing import Any

import pytest

from detector.commands.main import main
from detector.errors import UserError
from detector.evaluation.coco_eval import evaluate_coco

# Ids in the order in which a program met the files: 1.png, 10.png, 2.png.
FILES = {1: "1.png", 2: "2.png", 10: "10.png"}
CATEGORIES = [{"id": 1, "name": "bolt"}, {"id": 2, "name": "nut"}]


def truth(folder: str = "") -> dict[str, Any]:
    return {
        "images": [{"id": number, "file_name": folder + name} for number, name in FILES.items()],
        "categories": CATEGORIES,
        "annotations": [
            {"image_id": number, "category_id": 1 + number % 2, "bbox": [10 * number, 5, 20, 30]} for number in FILES
        ],
    }


def detections(**changes: Any) -> list[dict[str, Any]]:
    """Perfect ones, whose ids are places in the sorted list of files, the second one changed; ... removes a key."""
    rows = []
    for place, (number, name) in enumerate(sorted(FILES.items(), key=lambda item: item[1]), start=1):
        category = CATEGORIES[number % 2]
        row = {"image_id": place, "category_id": category["id"], "bbox": [10 * number, 5, 20, 30], "score": 0.9}
        rows.append(row | {"file_name": name, "category_name": category["name"]})
    rows[1] = {key: value for key, value in (rows[1] | changes).items() if value is not ...}
    return rows


@pytest.mark.parametrize("evaluator", ["pycocotools", "hotcoco"])
def test_file_names_say_whose_detections_are(evaluator: Any) -> None:
    assert pytest.approx(1) == evaluate_coco(truth(), detections(), evaluator).AP
    without = [{key: value for key, value in row.items() if key != "file_name"} for row in detections()]
    with pytest.raises(UserError, match="name image ids that are not in the annotations: 3"):
        evaluate_coco(truth(), without, evaluator)


@pytest.mark.parametrize(
    ("folder", "prefix"),
    [
        ("images/val/", ""),
        ("images/val/", "val/"),
        ("", "images/"),
        ("", "./"),
        ("val/", "/data/val/"),
        ("val/", "val\\"),
    ],
)
def test_paths_may_begin_at_different_folders(folder: str, prefix: str) -> None:
    rows = [row | {"file_name": prefix + row["file_name"]} for row in detections()]
    assert pytest.approx(1) == evaluate_coco(truth(folder), rows).AP


def test_annotations_without_file_names_go_by_ids() -> None:
    content = truth()
    for image in content["images"]:
        del image["file_name"]
    rows = [row | {"image_id": int(row["file_name"].removesuffix(".png"))} for row in detections()]
    assert pytest.approx(1) == evaluate_coco(content, rows).AP


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file_name": "1.png"}, "entry 1 has file_name '1.png' and image_id 2, but an entry before it has .* id 1"),
        ({"image_id": 1}, "entry 1 has image_id 1 and file_name '10.png', but an entry before it has .* '1.png'"),
        ({"file_name": "3.png"}, "entry 1 has file_name '3.png', which is not among its pictures in ground truth"),
        ({"file_name": "sub/../7.png"}, "which is not among its pictures"),
        ({"file_name": ...}, "entry 1 has no file_name, while others name their picture"),
        ({"file_name": 5}, "entry 1 has file_name 5, while others"),
        ({"category_name": "nut"}, "entry 1 has category_id 1 and category_name 'nut', .* is 'bolt', and 'nut' is 2"),
        ({"category_name": "screw"}, "category_name 'screw', but in ground truth category 1 is 'bolt'. Are they"),
        ({"category_id": 3}, "name category ids that are not in the annotations: 3"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"^detections: .*{message}"):
        evaluate_coco(truth(), detections(**changes))


def test_names_that_two_pictures_share_are_refused() -> None:
    content = truth("a/")
    content["images"].append({"id": 77, "file_name": "b/10.png"})
    with pytest.raises(UserError, match=r"entry 1 has file_name '10\.png', which may be a/10\.png or b/10\.png"):
        evaluate_coco(content, detections())
    rows = [row | {"file_name": f"x{place}/1.png"} for place, row in enumerate(detections())]
    with pytest.raises(UserError, match="which is not among its pictures"):
        evaluate_coco(content, rows)
    rows = [row | {"file_name": f"{'abc'[place]}/1.png"} for place, row in enumerate(detections())]
    with pytest.raises(UserError, match=r"both would be 1\.png"):
        evaluate_coco(truth(), rows)


def test_the_command_scores_a_file_of_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gt.json").write_text(json.dumps(truth()))
    (tmp_path / "dt.json").write_text(json.dumps(detections()))
    words = ["evaluate", "--detections", str(tmp_path / "dt.json"), "--annotations", str(tmp_path / "gt.json")]
    assert main(words) == 0
    assert "area=   all | maxDets=100 ] = 1.000" in capsys.readouterr().out
    content = truth()
    content["annotations"][0] |= {"bbox": [30, 35, -20, -30], "area": -600}
    (tmp_path / "gt.json").write_text(json.dumps(content))
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "area=   all | maxDets=100 ] = 1.000" in printed
    assert "gt.json: 1 × bad-area: " in printed
    assert "gt.json: 1 × swapped-corners: " in printed


@pytest.mark.parametrize("shift", [2**53, 2**62, 2**63 - 11])
def test_large_ids_score_alike(shift: int) -> None:
    content = truth()
    for row in content["images"]:
        row["id"] += shift
        del row["file_name"]
    for row in content["annotations"]:
        row["image_id"] += shift
    rows = [
        {"image_id": n + shift, "category_id": 1 + n % 2, "bbox": [10 * n, 5, 20, 30], "score": n / 100} for n in FILES
    ]
    assert pytest.approx(1) == evaluate_coco(content, rows, "pycocotools").AP
    assert pytest.approx(1) == evaluate_coco(content, rows, "hotcoco").AP
    with pytest.raises(
        UserError, match=r"entry 0 has image_id 9223372036854775808; expected a whole number below 2\^63"
    ):
        evaluate_coco(content, [rows[0] | {"image_id": 2**63}])
