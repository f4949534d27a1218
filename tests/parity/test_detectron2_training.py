"""detectron2's targets, losses, gradients and optimizer steps, from the pictures' bytes."""

from pathlib import Path

import pytest
from comparison import ExpectEqual
from detectron2_cases import folders_with, needs_references
from detectron2_training import TrainingCase, compare_steps, compare_training, training_cases

pytestmark = needs_references


@pytest.mark.parametrize("case", training_cases(), ids=str)
def test_targets_losses_and_gradients(case: TrainingCase, expect_equal: ExpectEqual) -> None:
    expect_equal(compare_training(case), f"training, {case.variant}")


@pytest.mark.parametrize("folder", folders_with("steps.json", "config_all.yaml"), ids=lambda folder: folder.name)
def test_recorded_steps(folder: Path, expect_equal: ExpectEqual) -> None:
    expect_equal(compare_steps(folder), "steps")
