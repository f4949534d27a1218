"""The numbers of a report on sets whose errors were planted."""

import time

import numpy as np
import pytest
from scored_sets import NAMES, analysed, box, content, detection, object_, perfect

from detector.categories import Category, CategoryMap
from detector.errors import UserError
from detector.evaluation.coco_eval import METRICS, ClassMetrics, CocoMetrics
from detector.evaluation.ground_truth import GroundTruth
from detector.evaluation.report.analyse import analyse
from detector.evaluation.report.confusion import confused_pairs
from detector.evaluation.report.worst import worst_pictures
from detector.evaluation.results import Results

CAT, DOG, BIRD = NAMES


def test_one_error_of_each_kind_is_counted_once() -> None:
    annotations = [object_(0), object_(1), object_(2), object_(3, DOG), object_(4, DOG)]
    detections = [
        detection(box(0), 0.95),
        detection(box(0, across=1), 0.9),  # a duplicate
        detection(box(1, height=7), 0.8),  # overlaps by 0.35: localisation
        detection(box(2), 0.7, DOG),  # class
        detection(box(30), 0.6),  # background
        detection(box(3), 0.5, DOG),
    ]  # and the second dog is missed
    _, _, analysis = analysed(content(annotations), detections)
    counts = {kind.name: kind.count for kind in analysis.errors}
    assert counts == {
        "localisation": 1,
        "class": 1,
        "class and localisation": 0,
        "duplicate": 1,
        "background": 1,
        "missed": 1,
    }
    costs = {kind.name: kind.cost for kind in analysis.errors}
    assert costs["missed"] > 0
    assert costs["class and localisation"] == 0


def test_a_swap_of_two_classes_lies_off_the_diagonal() -> None:
    annotations = [object_(i, (CAT, DOG, BIRD)[i % 3]) for i in range(30)]
    swapped = perfect(annotations)
    for one in swapped:  # and less sure than the others: the threshold must not hide them
        one["score"] = 0.9 if one["category_id"] == BIRD else 0.4
        one["category_id"] = {CAT: DOG, DOG: CAT, BIRD: BIRD}[one["category_id"]]
    _, _, analysis = analysed(content(annotations), swapped)
    expected = np.zeros((4, 4), int)
    expected[0, 1] = expected[1, 0] = expected[2, 2] = 10
    assert np.array_equal(analysis.confusion, expected)
    assert confused_pairs(analysis.confusion) == [(0, 1, 10), (1, 0, 10)]
    assert {kind.name: kind.count for kind in analysis.errors}["class"] == 20
    assert [one.AP for one in analysis.classes] == [0, 0, 1]


@pytest.mark.parametrize("score", [90, -0.5, 1.0001])
def test_scores_that_are_no_shares_are_refused(score: float) -> None:
    detections = [detection(box(0), 0.5), detection(box(1), score)]
    with pytest.raises(UserError, match=rf"entry 1 has score {score}, and a report is of scores from 0 to 1; divide"):
        analysed(content([object_(0)]), detections)


def test_duplicates_are_duplicates() -> None:
    annotations = [object_(i) for i in range(12)]
    planted = perfect(annotations) + [detection(box(i, across=1), 0.4) for i in range(7)]
    _, _, analysis = analysed(content(annotations), planted)
    assert {kind.name: kind.count for kind in analysis.errors if kind.count} == {"duplicate": 7}
    assert analysis.threshold == 0.9  # without them the boxes match best
    assert {kind.name: kind.count_shown for kind in analysis.errors if kind.count_shown} == {}
    assert analysis.confusion.sum() == 12


def test_thresholds_of_best_f1_and_classes_of_too_few_boxes() -> None:
    annotations = [object_(i) for i in range(20)] + [object_(i, DOG, 2) for i in range(19)]
    detections = perfect(annotations[:15], 0.8) + perfect(annotations[15:20], 0.6)
    detections += [detection(box(50 + i), 0.3) for i in range(10)]
    _, _, analysis = analysed(content(annotations, images=2), detections)
    cat, dog, bird = analysis.classes
    assert (cat.enough, dog.enough, bird.enough) == (True, False, False)
    assert cat.best is not None
    assert (cat.best.threshold, cat.best.f1, cat.best.precision, cat.best.recall) == (0.6, 1.0, 1.0, 1.0)
    assert dog.best is None
    assert (cat.AP, dog.AP, bird.AP) == (analysis.metrics.per_class[0].AP, 0.0, -1.0)
    assert (cat.APs, cat.APm) == (cat.AP, -1)


def test_crowds_and_detections_on_them_are_of_no_account() -> None:
    annotations = [object_(0), object_(5, iscrowd=1, bbox=[200, 0, 100, 100], area=10_000)]
    detections = [detection(box(0), 0.9), detection([210, 10, 30, 30], 0.95), detection([250, 50, 30, 30], 0.95)]
    truth, results, analysis = analysed(content(annotations), detections)
    assert all(kind.count == 0 for kind in analysis.errors)
    assert analysis.confusion[:, :].sum() == analysis.confusion[0, 0] == 1
    assert analysis.ignored.tolist() == [False, True, True]
    assert worst_pictures(truth, results, analysis) == []


def test_the_worst_pictures_come_first() -> None:
    annotations = [object_(i, image_id=image) for image in (1, 2, 3) for i in range(3)]
    detections = perfect(annotations[:3]) + perfect(annotations[3:5]) + perfect(annotations[6:8])
    detections += [detection(box(20), 0.95, image_id=3), detection(box(30), 0.1, image_id=2)]
    truth, results, analysis = analysed(content(annotations, images=4), detections)
    worst = worst_pictures(truth, results, analysis)
    assert [(one.name, one.false, one.missed) for one in worst] == [("3.png", 1, 1), ("2.png", 0, 1)]
    assert [one.name for one in worst_pictures(truth, results, analysis, count=1)] == ["3.png"]


@pytest.mark.parametrize("boxes", [0, 3])
def test_without_detections_or_without_boxes(boxes: int) -> None:
    annotations = [object_(i) for i in range(boxes)]
    _, _, nothing = analysed(content(annotations), [])
    assert nothing.threshold == 0
    assert nothing.confusion.sum() == boxes
    _, _, false = analysed(content(annotations), [detection(box(44), 0.5)])
    assert {kind.name: kind.count for kind in false.errors}["background"] == 1
    assert false.curve.best() is None


@pytest.mark.slow
def test_the_numbers_of_five_thousand_pictures_take_five_seconds() -> None:
    rng = np.random.default_rng(0)
    images, boxes, count, classes = 5000, 36_000, 436_000, 80
    rows = np.column_stack((rng.uniform(0, 500, (boxes, 2)), rng.uniform(5, 200, (boxes, 2))))
    image_of, class_of = rng.integers(0, images, boxes), rng.integers(0, classes, boxes)
    near = rng.integers(0, boxes, count // 4)
    places = np.column_stack((rng.uniform(0, 500, (count, 2)), rng.uniform(5, 200, (count, 2))))
    owners, labels = rng.integers(0, images, count), rng.integers(0, classes, count)
    places[: len(near)] = np.maximum(rows[near] + rng.normal(0, 3, (len(near), 4)), 1)
    owners[: len(near)], labels[: len(near)] = image_of[near], class_of[near]
    categories = CategoryMap(tuple(Category(i, f"class {i}") for i in range(classes)))
    areas = rows[:, 2] * rows[:, 3]
    truth = GroundTruth("made", categories, np.arange(images), image_of, class_of, rows, areas, np.zeros(boxes, bool))
    results = Results(owners, labels, places, rng.uniform(0.05, 1, count))
    per_class = tuple(ClassMetrics(one.id, one.name, 0.0, 0.0, 0, 0) for one in categories.categories)
    metrics = CocoMetrics(**dict.fromkeys(METRICS, 0.0), per_class=per_class)
    began = time.process_time()
    analyse(truth, results, metrics)
    assert time.process_time() - began <= 5
