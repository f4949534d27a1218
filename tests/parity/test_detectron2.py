"""detectron2's C4 models give the same numbers here: stage by stage, and from the picture's bytes to detections."""

from pathlib import Path

import pytest
import torch
from comparison import Comparison, Rows
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
def test_every_stage_fed_with_its_saved_input(checkpoint: Path, case: Case, expect_equal) -> None:
    expect_equal(compare_stages(load_reference(checkpoint), case), "stage by stage")


@pytest.mark.parametrize(("checkpoint", "case"), [c for c in CASES if not c[1].has_stages], ids=name)
def test_proposals_and_detections_of_a_batch_fed_with_their_saved_inputs(
    checkpoint: Path, case: Case, expect_equal
) -> None:
    reference, found = load_reference(checkpoint), Comparison()
    with torch.inference_mode():
        compare_proposals(found, reference, case)
        compare_selection(found, reference, case)
    expect_equal(found, "stage by stage")


@pytest.mark.parametrize(("checkpoint", "case"), CASES, ids=name)
def test_from_the_pictures_bytes_to_detections(checkpoint: Path, case: Case, expect_equal) -> None:
    expect_equal(compare_end_to_end(load_reference(checkpoint), case), "end to end")


@pytest.mark.parametrize("case", [c for c in inference_cases() if c.has_stages], ids=str)
def test_the_cases_would_notice(case: Case) -> None:
    """What makes the comparison meaningful: enough proposals and detections, of several classes, and all distinct."""
    for prefix, _ in case.thresholds:
        assert len(case.image(0, f"{prefix}_scores")) >= 10
        assert len(case.image(0, f"{prefix}_classes").unique()) >= 2
    assert len(case.image(0, "proposal_boxes").unique(dim=0)) == len(case.image(0, "proposal_boxes"))


@pytest.mark.parametrize(("checkpoint", "case"), [c for c in CASES if c[1].has_stages], ids=name)
def test_through_the_public_interface(checkpoint: Path, case: Case, expect_equal) -> None:
    """What a user types, with every shortcut that is taken for them."""
    model = detector.load(checkpoint, config=checkpoint.parent / "config.yaml", device="cpu")
    theirs = detections(case, 0, "det005", "out")
    found = Comparison()
    ours = model.predict(case.pictures[0], score_threshold=0.05)
    as_rows = Rows(torch.as_tensor(ours.boxes), torch.as_tensor(ours.scores), torch.as_tensor(ours.labels))
    found.same_rows("detections", as_rows, theirs, BOX, SCORE)
    expect_equal(found, "detector.load and predict")
