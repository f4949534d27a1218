"""detectron2's targets, losses, gradients and optimizer steps, from the pictures' bytes."""

from pathlib import Path

import pytest
import torch
from comparison import ExpectEqual
from detectron2_cases import folder_id, folders_with
from detectron2_training import TrainingCase, compare_steps, compare_training, training_cases


@pytest.mark.parametrize("case", training_cases(), ids=str)
def test_targets_losses_and_gradients(case: TrainingCase, device: torch.device, expect_equal: ExpectEqual) -> None:
    expect_equal(compare_training(case.on(device)), f"{device}, training, {case.variant}")


# Embedded ones are whole; they stand for the record they were taken from.
STEPS = {folder.name: folder for folder in reversed(folders_with("steps.json", "config_all.yaml"))}


@pytest.mark.parametrize("folder", STEPS.values(), ids=folder_id)
def test_recorded_steps(folder: Path, device: torch.device, expect_equal: ExpectEqual) -> None:
    expect_equal(compare_steps(folder, device), f"{device}, steps")
