"""mmdetection's models give the same numbers here: stage by stage, and from the picture's bytes to detections.

C4, DC5 and FPN; `pytorch` and `caffe` style; versions 2 and 3; every form of checkpoint.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from comparison import Comparison, ExpectEqual, Rows
from mmdetection_cases import EMBEDDED, Case, folders, inference_cases, load_reference
from mmdetection_inference import BOX, SCORE, compare_end_to_end, compare_proposals, compare_selection, compare_stages

import detector
from detector.structures import FeatureMap

CASES = inference_cases()
WITH_STAGES = [case for case in CASES if case.has_stages]
BATCHES = [case for case in CASES if len(case.pictures) > 1]
ALONE = [case for case in CASES if len(case.pictures) == 1]


def quick_or_slow(cases: list[Case], quick: list[Case]) -> list[Any]:
    """The cases, of which the quick ones, and those that travel with the project, are in every run."""
    always = [case in quick or (EMBEDDED / case.folder.name).is_dir() for case in cases]
    return [case if a else pytest.param(case, marks=pytest.mark.slow) for case, a in zip(cases, always, strict=True)]


def one_of_each(cases: list[Case]) -> list[Any]:
    """The cases, of which one of each folder with ResNet-50 is in every run."""
    first = {case.folder: case for case in reversed(cases) if "r50" in case.folder.name}
    return quick_or_slow(cases, list(first.values()))


@pytest.mark.parametrize("case", one_of_each(WITH_STAGES), ids=str)
def test_every_stage_fed_with_its_saved_input(case: Case, expect_equal: ExpectEqual) -> None:
    expect_equal(compare_stages(load_reference(case.folder), case), "mmdetection, stage by stage")


@pytest.mark.parametrize("case", BATCHES, ids=str)
def test_proposals_and_detections_of_a_batch_fed_with_their_saved_inputs(case: Case, expect_equal: ExpectEqual) -> None:
    reference, found = load_reference(case.folder), Comparison()
    strides = (4, 8, 16, 32, 64) if len(case.maps("rpn_logits")) > 1 else (16,)
    features = tuple(FeatureMap(m, s) for m, s in zip(case.maps("rpn_logits"), strides, strict=True))
    with torch.inference_mode():
        compare_proposals(found, reference, case, features)
        compare_selection(found, reference, case)
    expect_equal(found, "mmdetection, stage by stage")


@pytest.mark.parametrize("case", quick_or_slow(CASES, BATCHES), ids=str)
def test_from_the_pictures_bytes_to_detections(case: Case, expect_equal: ExpectEqual) -> None:
    expect_equal(compare_end_to_end(load_reference(case.folder), case), "mmdetection, end to end")


@pytest.mark.parametrize("case", one_of_each(ALONE), ids=str)
def test_through_the_public_interface_by_the_config_that_the_file_carries(
    case: Case, expect_equal: ExpectEqual
) -> None:
    expect_equal(compare_predictions(case, None), "mmdetection, detector.load and predict")


@pytest.mark.parametrize("case", quick_or_slow(ALONE, []), ids=str)
def test_through_the_public_interface_by_the_dumped_config(case: Case, expect_equal: ExpectEqual) -> None:
    expect_equal(compare_predictions(case, case.folder / "config.py"), "mmdetection, detector.load and predict")


def compare_predictions(case: Case, config: Path | None) -> Comparison:
    """What a user types, with every shortcut that is taken for them."""
    model = detector.load(case.folder / "checkpoint.pth", config=config, device="cpu")
    ours = model.predict(case.pictures[0], score_threshold=0.0)
    as_rows = Rows(torch.as_tensor(ours.boxes), torch.as_tensor(ours.scores), torch.as_tensor(ours.labels))
    found = Comparison()
    found.same_rows("detections", as_rows, case.detections(0, "det005", "out"), BOX, SCORE)
    return found


def test_the_cases_would_notice() -> None:
    """What makes the comparison meaningful: many distinct proposals, and detections of several classes."""
    assert folders()
    for case in CASES:
        for i in range(len(case.pictures)):
            boxes = case.image(i, "proposal_boxes")
            assert len(boxes.unique(dim=0)) == len(boxes) >= 200
            labels = case.detections(i, "det002", "out").labels
            assert labels is not None
            assert len(labels) >= 50
            assert len(labels.unique()) > 1
