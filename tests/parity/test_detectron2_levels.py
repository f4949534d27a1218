"""detectron2's FPN, DC5 and ResNeXt models give the same numbers here: stage by stage, and from bytes to detections."""

from pathlib import Path

import pytest
import torch
from comparison import Comparison, ExpectEqual, Rows
from detectron2_cases import Case, detections, load_reference
from detectron2_inference import BOX, SCORE
from detectron2_levels import (
    compare_level_proposals,
    compare_level_stages,
    compare_levels_end_to_end,
    level_cases,
    recorded_levels,
)
from detectron2_training import TrainingCase, compare_steps, compare_training

import detector

CASES = level_cases()
pytestmark = pytest.mark.skipif(recorded_levels() is None, reason="no recorded outputs of FPN; set DETECTOR_SHARED")


def name(value: Path | Case) -> str:
    return value.suffix[1:] if isinstance(value, Path) else str(value)


def is_single(case: Case) -> bool:
    return len(case.pictures) == 1


@pytest.mark.parametrize(("checkpoint", "case"), [c for c in CASES if is_single(c[1])], ids=name)
def test_every_stage_fed_with_its_saved_input(
    checkpoint: Path, case: Case, device: torch.device, expect_equal: ExpectEqual
) -> None:
    reference, case = load_reference(checkpoint).on(device), case.on(device)
    found = compare_level_stages(reference, case)
    found.add(compare_level_proposals(reference, case), "from the RPN's saved outputs: ")
    expect_equal(found, f"{device}, {reference.config.model.kind}, stage by stage")


@pytest.mark.parametrize(("checkpoint", "case"), CASES, ids=name)
def test_from_the_pictures_bytes_to_detections(
    checkpoint: Path, case: Case, device: torch.device, expect_equal: ExpectEqual
) -> None:
    reference = load_reference(checkpoint).on(device)
    found = compare_levels_end_to_end(reference, case.on(device))
    expect_equal(found, f"{device}, {reference.config.model.kind}, end to end")


@pytest.mark.parametrize(("checkpoint", "case"), [c for c in CASES if is_single(c[1])], ids=name)
def test_through_the_public_interface(
    checkpoint: Path, case: Case, device: torch.device, expect_equal: ExpectEqual
) -> None:
    """What a user types, with every shortcut that is taken for them."""
    model = detector.load(checkpoint, config=checkpoint.parent / "config.yaml", device=str(device), precision="float32")
    recorded = {threshold: prefix for prefix, threshold in case.thresholds}
    prefix = recorded[model.config.model.detection.score_threshold]
    ours = model.predict(case.pictures[0], score_threshold=0.0)
    found = compare(Rows(*(torch.as_tensor(v) for v in (ours.boxes, ours.scores, ours.labels))), case, prefix)
    expect_equal(found, f"{device}, {model.config.model.kind}, detector.load and predict")


@pytest.mark.parametrize("variant", ["all", "firstk"])
def test_targets_losses_and_gradients(variant: str, device: torch.device, expect_equal: ExpectEqual) -> None:
    case = TrainingCase(training_folder(), variant, device)
    expect_equal(compare_training(case), f"{device}, fpn, training, {variant}")


def test_recorded_steps(device: torch.device, expect_equal: ExpectEqual) -> None:
    expect_equal(compare_steps(training_folder(), device), f"{device}, fpn, steps")


def training_folder() -> Path:
    root = recorded_levels()
    assert root is not None
    return root / "train_fpn_r50_w3_c5"


def compare(ours: Rows, case: Case, prefix: str) -> Comparison:
    found = Comparison()
    found.same_rows("detections", ours, detections(case, 0, prefix, "out"), BOX, SCORE)
    return found
