"""detectron2's C4 models give the same numbers here: stage by stage, and from the picture's bytes to detections."""

from pathlib import Path

import pytest
import torch
from comparison import Comparison, ExpectEqual, Rows
from detectron2_cases import Case, checkpoints, detections, inference_cases, load_reference
from detectron2_inference import (
    BOX,
    SCORE,
    compare_end_to_end,
    compare_proposals,
    compare_selection,
    compare_stages,
)

import detector

CASES = [(checkpoint, case) for case in inference_cases() for checkpoint in checkpoints(case.folder)]


def name(value: Path | Case) -> str:
    return value.suffix[1:] if isinstance(value, Path) else str(value)


@pytest.mark.parametrize(("checkpoint", "case"), [c for c in CASES if c[1].has_stages], ids=name)
def test_every_stage_fed_with_its_saved_input(
    checkpoint: Path, case: Case, device: torch.device, expect_equal: ExpectEqual
) -> None:
    reference = load_reference(checkpoint).on(device)
    expect_equal(compare_stages(reference, case.on(device)), f"{device}, stage by stage")


@pytest.mark.parametrize(("checkpoint", "case"), [c for c in CASES if not c[1].has_stages], ids=name)
def test_proposals_and_detections_of_a_batch_fed_with_their_saved_inputs(
    checkpoint: Path, case: Case, device: torch.device, expect_equal: ExpectEqual
) -> None:
    reference, found = load_reference(checkpoint).on(device), Comparison()
    with torch.inference_mode():
        compare_proposals(found, reference, case.on(device))
        compare_selection(found, reference, case.on(device))
    expect_equal(found, f"{device}, stage by stage")


@pytest.mark.parametrize(("checkpoint", "case"), CASES, ids=name)
def test_from_the_pictures_bytes_to_detections(
    checkpoint: Path, case: Case, device: torch.device, expect_equal: ExpectEqual
) -> None:
    reference = load_reference(checkpoint).on(device)
    expect_equal(compare_end_to_end(reference, case.on(device)), f"{device}, end to end")


def test_the_cases_would_notice() -> None:
    """What makes the comparison meaningful: there are many distinct proposals, and detections of many classes."""
    single = [case for case in inference_cases() if case.has_stages]
    found = [
        (len(c.image(0, f"{p}_scores")), len(c.image(0, f"{p}_classes").unique()))
        for c in single
        for p, _ in c.thresholds
    ]
    assert sum(detections for detections, _ in found) > 100
    assert max(classes for _, classes in found) >= 3
    for case in single:
        boxes = case.image(0, "proposal_boxes")
        assert len(boxes.unique(dim=0)) == len(boxes) > 100


@pytest.mark.parametrize(("checkpoint", "case"), [c for c in CASES if c[1].has_stages], ids=name)
def test_through_the_public_interface(
    checkpoint: Path, case: Case, device: torch.device, expect_equal: ExpectEqual
) -> None:
    """What a user types, with every shortcut that is taken for them."""
    model = detector.load(checkpoint, config=checkpoint.parent / "config.yaml", device=str(device), precision="float32")
    recorded = {threshold: prefix for prefix, threshold in case.thresholds}
    prefix = recorded[model.config.model.detection.score_threshold]
    ours = model.predict(case.pictures[0], score_threshold=0.0)
    as_rows = Rows(torch.as_tensor(ours.boxes), torch.as_tensor(ours.scores), torch.as_tensor(ours.labels))
    found = Comparison()
    found.same_rows("detections", as_rows, detections(case, 0, prefix, "out"), BOX, SCORE)
    expect_equal(found, f"{device}, detector.load and predict")
