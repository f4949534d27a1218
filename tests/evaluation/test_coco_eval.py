"""Scores: the published ones, hand-checked ones, and the two evaluators equal to the last bit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.errors import UserError
from detector.evaluation.coco_eval import METRICS, CocoMetrics, evaluate_coco
from detector.evaluation.ground_truth import read_ground_truth

EVALUATORS = ("pycocotools", "hotcoco")


def coco(boxes: list[dict[str, Any]], images: int = 1, categories: tuple[int, ...] = (1,)) -> dict[str, Any]:
    return {
        "images": [{"id": i} for i in range(1, images + 1)],
        "categories": [{"id": c, "name": f"class {c}"} for c in categories],
        "annotations": [{"image_id": 1, "category_id": 1} | box for box in boxes],
    }


def detection(bbox: list[float], score: float, image_id: int = 1, category_id: int = 1) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}


def both(truth: Any, detections: list[dict[str, Any]], **more: Any) -> CocoMetrics:
    """The metrics, after checking that both evaluators give the same ones."""
    first, second = (evaluate_coco(truth, detections, evaluator, **more) for evaluator in EVALUATORS)
    assert first == second
    return first


def expect(metrics: CocoMetrics, **numbers: float) -> None:
    for name, number in numbers.items():
        assert getattr(metrics, name) == pytest.approx(number, rel=1e-12), name


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_published_numbers(shared: Path, evaluator: Any) -> None:
    folder = shared / "data" / "eval_val2014_100"
    expected = json.loads((folder / "expected.json").read_text())
    detections = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())
    untouched = json.dumps(detections)
    metrics = evaluate_coco(folder / "instances_val2014_100.json", detections, evaluator)
    assert {name: getattr(metrics, name) for name in METRICS} == pytest.approx(expected["stats"], rel=0, abs=1e-9)
    per_class = {str(one.category_id): one.AP for one in metrics.per_class}
    assert per_class == pytest.approx(expected["AP_per_category"], rel=0, abs=1e-9)
    assert json.dumps(detections) == untouched


def test_hand_checked() -> None:
    truth = coco([{"bbox": [10, 10, 20, 20]}])
    perfect = both(truth, [detection([10, 10, 20, 20], 0.3)])
    expect(perfect, AP=1, AP50=1, AR1=1, ARs=1, APm=-1, ARl=-1)  # the box is small: 400 < 32²
    # A false positive before the true one: precision 1/2 at every recall.
    late = both(truth, [detection([60, 60, 20, 20], 0.9), detection([10, 10, 20, 20], 0.8)])
    expect(late, AP=0.5, AR1=0)
    # IoU 13 / 20 = 0.65: right at the thresholds 0.5, 0.55, 0.6 and 0.65 of ten.
    loose = both(truth, [detection([10, 10, 20, 13], 0.8)])
    expect(loose, AP=0.4, AP50=1, AP75=0)


def test_nothing_found_is_zero_and_nothing_to_find_is_undefined() -> None:
    truth = coco([{"bbox": [10, 10, 20, 20]}], categories=(1, 7))
    metrics = both(truth, [])
    expect(metrics, AP=0, AR100=0, APs=0, APl=-1)
    assert [(one.category_id, one.AP, one.ground_truth) for one in metrics.per_class] == [(1, 0, 1), (7, -1, 0)]
    nothing = both(coco([]), [detection([0, 0, 5, 5], 0.5)])
    assert {getattr(nothing, name) for name in METRICS} == {-1}
    assert nothing.per_class[0].detections == 1
    assert both(coco([], images=0), []).AP == -1


def test_fields_that_may_be_missing_and_ids_that_trap() -> None:
    """Area from the box, iscrowd 0, annotation id 0 (evaluators' "unmatched") and twice the same id."""
    boxes = [{"id": 0, "bbox": [0, 0, 40, 40]}, {"id": 0, "bbox": [50, 50, 40, 40], "area": None}]
    metrics = both(coco(boxes), [detection([0, 0, 40, 40], 0.9), detection([50, 50, 40, 40], 0.8)])
    expect(metrics, AP=1, APm=1, APs=-1)  # 1600 lies between 32² and 96²


def test_crowd_is_neither_found_nor_missed() -> None:
    boxes = [{"bbox": [0, 0, 40, 40]}, {"bbox": [100, 0, 100, 100], "iscrowd": 1}]
    metrics = both(coco(boxes), [detection([0, 0, 40, 40], 0.5), detection([120, 20, 30, 30], 0.9)])
    expect(metrics, AP=1)
    assert metrics.per_class[0].ground_truth == 1


@pytest.mark.parametrize("crowd", [0, 1])
def test_ignore_counts_as_little_as_for_pycocotools(crowd: int, tmp_path: Path) -> None:
    """COCOeval reads `ignore`, and overwrites it by `iscrowd` in the next line."""
    boxes = [
        {"id": 1, "bbox": [0, 0, 40, 40], "area": 1600, "iscrowd": 0},
        {"id": 2, "bbox": [100, 0, 40, 40], "area": 1600, "ignore": 1, "iscrowd": crowd},
    ]
    truth, detections = coco(boxes), [detection([0, 0, 40, 40], 0.9)]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    reference = COCO(tmp_path / "truth.json")
    evaluation = COCOeval(reference, reference.loadRes(detections), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    metrics = both(truth, detections)
    assert [getattr(metrics, name) for name in METRICS] == evaluation.stats.tolist()
    notes = read_ground_truth(truth).notes
    assert [note.split(":")[0] for note in notes] == ([] if crowd else ["1 × ignore-mark"])
    expect(metrics, AR100=1 if crowd else 0.5)


def test_mixed_up_categories_are_an_error_and_gaps_are_none() -> None:
    truth = coco([{"bbox": [0, 0, 9, 9], "category_id": c} for c in (90, 3, 7)], categories=(7, 3, 90))
    right = [detection([0, 0, 9, 9], 0.9, category_id=c) for c in (3, 7, 90)]
    metrics = both(truth, right)
    expect(metrics, AP=1)
    assert [one.category_id for one in metrics.per_class] == [3, 7, 90]
    with pytest.raises(UserError, match=r"2 of 3 entries name category ids .*: 1, 2 \(there are 3, 7, 90\)"):
        evaluate_coco(truth, [detection([0, 0, 9, 9], 0.9, category_id=c) for c in (1, 2, 3)])


def test_some_images_only() -> None:
    truth = coco([{"bbox": [0, 0, 9, 9]}, {"bbox": [0, 0, 9, 9], "image_id": 2}], images=3)
    detections = [detection([0, 0, 9, 9], 0.9), detection([50, 50, 9, 9], 0.9, image_id=3)]
    expect(both(truth, detections, image_ids=[1, 1]), AP=1)
    expect(both(truth, detections, image_ids=[2]), AP=0)
    with pytest.raises(UserError, match="no image with id 9"):
        evaluate_coco(truth, detections, image_ids=[1, 9])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": float("nan")}, "entry 1 has score nan; expected a finite number"),
        ({"bbox": [0, 0, float("inf"), 5]}, "entry 1 has bbox .* expected four finite numbers"),
        ({"bbox": [0, 0, 5]}, "entry 1 has bbox .* expected four finite numbers"),
        ({"bbox": [0, 0, "5", 5]}, "entry 1 has bbox .* expected four finite numbers"),
        ({"bbox": None}, "entry 1 has bbox None"),
        ({"bbox": [20, 20, -5, 5]}, r"entry 1 has bbox \[20.0, 20.0, -5.0, 5.0\] of negative extent"),
        ({"image_id": "1"}, "entry 1 has image_id '1'; expected a whole number"),
        ({"image_id": 1.5}, "entry 1 has image_id 1.5"),
        ({"image_id": 77}, r"1 of 2 entries name image ids .*: 77"),
    ],
)
def test_bad_detections_are_named(change: dict[str, Any], message: str) -> None:
    good = detection([0, 0, 9, 9], 0.9)
    with pytest.raises(UserError, match=message):
        evaluate_coco(coco([{"bbox": [0, 0, 9, 9]}]), [good, good | change])


def test_missing_field_is_named() -> None:
    with pytest.raises(UserError, match=r"results\.json: entry 0 has no score"):
        evaluate_coco(coco([]), [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}], source="results.json")


@pytest.mark.parametrize("name", ["bccd/annotations/instances_val.json", "coco_annotations/instances_val2017_79.json"])
def test_evaluators_agree_on_real_annotations(shared: Path, name: str) -> None:
    truth = json.loads((shared / "data" / name).read_text())
    generator = np.random.default_rng(0)
    detections = []
    for annotation in truth["annotations"]:
        for _ in range(int(generator.integers(0, 4))):
            moved = np.array(annotation["bbox"]) * generator.uniform(0.8, 1.25, 4)
            confused = generator.random() < 0.1
            category_id = truth["categories"][0]["id"] if confused else annotation["category_id"]
            score = round(generator.random(), 2)  # with ties
            detections.append(detection(moved.tolist(), score, annotation["image_id"], category_id))
    metrics = both(truth, detections)
    assert 0.02 < metrics.AP < 0.9


@pytest.mark.parametrize("seed", range(12))
def test_evaluators_agree_on_awkward_sets(seed: int) -> None:
    """Ties, crowds, more than 100 detections of a class in an image, empty classes and images, boxes without area."""
    generator = np.random.default_rng(seed)
    images, categories = [0, 5, 6, 2**40], (2, 3, 8, 90)

    def box() -> list[float]:
        size = generator.choice([0, 4, 31, 32, 33, 96, 150], 2) if seed % 2 else generator.uniform(1, 150, 2)
        return [*generator.integers(0, 60, 2).tolist(), *size.tolist()]

    truth = {
        "images": [{"id": i} for i in images],
        "categories": [{"id": c, "name": str(c)} for c in categories],
        "annotations": [
            {
                "image_id": int(generator.choice(images[:3])),
                "category_id": int(generator.choice(categories[:3])),
                "bbox": box(),
                "iscrowd": int(generator.random() < 0.25),
                "area": float(generator.choice([0, 1024, 9216, 500, 5000, 20000])),
            }
            for _ in range(40)
        ],
    }
    detections = [
        detection(
            truth["annotations"][int(generator.integers(40))]["bbox"] if generator.random() < 0.3 else box(),
            float(generator.integers(0, 5) / 4) if seed % 3 else generator.random(),
            int(generator.choice(images)),
            int(generator.choice(categories)),
        )
        for _ in range(int(generator.choice([0, 30, 2500])))
    ]
    both(truth, detections)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    both(coco([{"bbox": [0, 0, 9, 9]}]), [detection([0, 0, 9, 9], 0.5)])
    assert capfd.readouterr() == ("", "")


def test_to_dict() -> None:
    values = both(coco([{"bbox": [0, 0, 9, 9]}]), []).to_dict()
    assert list(values) == [*METRICS, "per_class"]
    assert values["per_class"] == [
        {"category_id": 1, "name": "class 1", "AP": 0.0, "AP50": 0.0, "ground_truth": 1, "detections": 0}
    ]
    json.dumps(values, allow_nan=False)
