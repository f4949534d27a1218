"""The table for people, and the hints for a low score."""

from typing import Any

import pytest

from detector.evaluation.coco_eval import evaluate_coco
from detector.evaluation.explain import explain_low_ap, recall_at_half
from detector.evaluation.ground_truth import read_ground_truth
from detector.evaluation.results import check_results
from detector.evaluation.table import metrics_table

TRUTH = {
    "images": [{"id": 1}, {"id": 2}],
    "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}, {"id": 9, "name": "cow"}],
    "annotations": [
        {"image_id": 1, "category_id": 3, "bbox": [10, 10, 20, 20]},
        {"image_id": 1, "category_id": 7, "bbox": [50, 10, 20, 20]},
        {"image_id": 2, "category_id": 7, "bbox": [50, 10, 20, 20]},
        {"image_id": 2, "category_id": 7, "bbox": [0, 0, 90, 90], "iscrowd": 1},
    ],
}


def detections(swap: bool = False, shift: float = 0.0) -> list[dict[str, Any]]:
    return [
        {
            "image_id": a["image_id"],
            "category_id": {3: 7, 7: 3}[a["category_id"]] if swap else a["category_id"],
            "bbox": [a["bbox"][0] + shift, *a["bbox"][1:]],
            "score": 0.9,
        }
        for a in TRUTH["annotations"][:3]
    ]


def hints(truth: dict[str, Any], found: list[dict[str, Any]]) -> list[str]:
    columns = read_ground_truth(truth)
    return explain_low_ap(evaluate_coco(truth, found), columns, check_results(found, columns))


def test_table() -> None:
    lines = metrics_table(evaluate_coco(TRUTH, detections())).splitlines()
    assert lines[0] == " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 1.000"
    assert lines[1] == " Average Precision  (AP) @[ IoU=0.50      | area=   all | maxDets=100 ] = 1.000"
    assert lines[4].endswith("area=medium | maxDets=100 ] = n/a (no ground truth)")
    assert lines[6] == " Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=  1 ] = 1.000"
    assert [line.split() for line in lines[14:]] == [
        ["3", "cat", "1", "1", "1.000", "1.000"],
        ["7", "dog", "2", "2", "1.000", "1.000"],
        ["9", "cow", "0", "0", "n/a", "(no", "ground", "truth)"],
    ]
    assert len({line.index("cat" if "cat" in line else "dog") for line in lines[14:16]}) == 1


@pytest.mark.parametrize(
    ("found", "hint"),
    [
        ([], "nothing to score"),
        (detections(swap=True), "the places are right and the classes wrong"),
        (detections(shift=300), "few boxes are where the objects are"),
    ],
)
def test_hints(found: list[dict[str, Any]], hint: str) -> None:
    lines = hints(TRUTH, found)
    assert lines[0].startswith("ground truth: 3 boxes (and 1 crowds or difficult objects) in 2 images")
    assert hint in lines[-1]


def test_no_hints_for_a_score_and_one_for_an_empty_truth() -> None:
    assert hints(TRUTH, detections()) == []
    nothing = TRUTH | {"annotations": []}
    assert "right annotation file" in hints(nothing, [])[-1]


def test_recall_at_half() -> None:
    truth = read_ground_truth(TRUTH)
    mixed = [*detections(swap=True)[:2], detections()[2]]
    assert recall_at_half(truth, check_results(mixed, truth)) == pytest.approx((1, 1 / 3))
