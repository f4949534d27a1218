"""Planted errors of labels come first, by the detections of a model that knows better."""

from typing import Any

import pytest
from scored_sets import NAMES, box, content, detection, object_, perfect

from detector.evaluation.ground_truth import read_ground_truth
from detector.evaluation.report.label_errors import LabelError, label_errors
from detector.evaluation.results import check_results

CAT, DOG, BIRD = NAMES


def found(annotations: list[dict[str, Any]], detections: list[dict[str, Any]], most: int = 60) -> list[LabelError]:
    truth = read_ground_truth(content(annotations, images=4))
    return label_errors(truth, check_results(detections, truth), most)


def test_planted_errors_come_first_and_sound_labels_are_no_candidates() -> None:
    sound = [object_(i, (CAT, DOG, BIRD)[i % 3], image) for image in (1, 2, 3) for i in range(12)]
    detections = perfect(sound, 0.9)
    wrong = object_(20, DOG, 2)  # it is a cat
    doubtful = object_(30, BIRD, 3)  # nothing is there
    annotations = [*sound, wrong, doubtful]
    detections += [detection(box(20), 0.97, CAT, 2), detection(box(40), 0.95, BIRD, 1)]  # whose label is missing
    # What a model says wrongly, or says of labels that are right, and unsurely.
    detections += [detection(box(0), 0.6, DOG, 1), detection(box(50), 0.45, CAT, 1), detection(box(0), 0.4, CAT, 4)]
    candidates = found(annotations, detections)
    assert [(one.kind, one.image_id, one.label, one.suggested) for one in candidates] == [
        ("wrong label", 2, "dog", "cat"),
        ("missing label", 1, "", "bird"),
        ("doubtful box", 3, "bird", ""),
    ]
    assert [one.annotation for one in candidates] == [len(sound), None, len(sound) + 1]
    assert [list(one.box) for one in candidates] == [box(20), box(40), box(30)]
    assert [one.score for one in candidates] == pytest.approx([0.97, 0.95, 0.9])
    assert found(annotations, detections, most=1) == candidates[:1]


def test_one_object_is_one_candidate() -> None:
    sound = [object_(i) for i in range(3)]
    again = [detection(box(40), 0.9), detection(box(40, across=1), 0.8), detection(box(40), 0.7, DOG)]
    again += [detection(box(1), 0.8, DOG), detection(box(1), 0.7, BIRD)]
    detections = [*perfect(sound[:1]), *perfect(sound[2:]), *again]
    assert [(one.kind, one.suggested) for one in found(sound, detections)] == [
        ("missing label", "cat"),
        ("wrong label", "dog"),
    ]


def test_two_objects_in_one_place_are_no_wrong_label() -> None:
    both = [object_(0, CAT), object_(0, DOG, bbox=box(0, across=1))]
    assert found(both, [detection(box(0), 0.9, CAT), detection(box(0), 0.95, DOG)]) == []
    # A box that is as surely of its own class is not contradicted.
    assert found(both[:1], [detection(box(0), 0.9, CAT), detection(box(0), 0.8, DOG)]) == []


def test_between_nothing_and_the_same_place_nothing_is_said() -> None:
    assert found([object_(0)], [detection(box(0, across=8), 0.9, DOG)]) == []  # overlaps by 0.43


def test_a_detection_in_a_crowd_is_no_missing_label() -> None:
    crowd = object_(0, iscrowd=1, bbox=[0, 0, 200, 200])
    assert found([crowd], [detection([20, 20, 30, 30])]) == []
    assert found([crowd], [detection([300, 20, 30, 30])])[0].kind == "missing label"


@pytest.mark.parametrize(("others", "candidates"), [(4, 0), (5, 1)])
def test_a_box_is_doubted_where_enough_others_are_found(others: int, candidates: int) -> None:
    annotations = [object_(i) for i in range(others + 1)]
    assert len(found(annotations, perfect(annotations[:others]))) == candidates


def test_a_box_is_not_doubted_where_its_class_is_not_found_well_or_boxes_of_its_size_are_not() -> None:
    annotations = [object_(i) for i in range(12)]
    assert found(annotations, perfect(annotations[:6])) == []
    small = [object_(20 + i, bbox=box(20 + i, 4, 4), area=16) for i in range(6)]
    assert found(annotations + small, perfect(annotations)) == []
    assert len(found(annotations + small[:1], perfect(annotations))) == 1
    # An unsure detection is one: the model has seen something there.
    assert found(annotations, [*perfect(annotations[:11]), detection(box(11), 0.06, DOG)]) == []


def test_without_labels_and_without_detections() -> None:
    assert found([], []) == []
    assert [one.kind for one in found([], [detection(box(0))])] == ["missing label"]
    assert found([object_(0)], []) == []
