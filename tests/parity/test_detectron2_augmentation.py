"""detectron2's test-time augmentation gives the same numbers here, from the picture's bytes to merged detections.

Its outputs lie beside the project on some machines, in `fixtures/detectron2_fpn/tta_*`; elsewhere there is nothing to
compare with.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from comparison import Comparison, ExpectEqual, Rows
from detectron2_cases import recorded
from detectron2_inference import BOX, SCORE

import detector


@dataclass(frozen=True)
class AugmentedCase:
    """One picture through one model. resized_first: its views were made of the picture at test size."""

    folder: Path
    name: str
    checkpoint: Path
    image: Path
    resized_first: bool

    def __str__(self) -> str:
        return f"{self.folder.name}-{self.name}"


def cases() -> list[AugmentedCase]:
    root = recorded()
    found = []
    for folder in sorted(root.parent.glob("detectron2_fpn/tta_*")) if root else ():
        manifest = json.loads((folder / "manifest.json").read_text())
        for name, case in manifest["cases"].items():
            checkpoint = (folder / manifest["checkpoint"]).resolve()
            image = folder.parent / "images" / case["image"]
            found.append(AugmentedCase(folder, name, checkpoint, image, case["resized_first"]))
    return found


@pytest.mark.skipif(not cases(), reason="detectron2's recorded outputs are not beside this project")
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "readable"])
@pytest.mark.parametrize("case", cases(), ids=str)
def test_augmented_detections(case: AugmentedCase, fast: bool, expect_equal: ExpectEqual) -> None:
    model = detector.load(case.checkpoint, config=case.folder / "config.yaml", device="cpu", fast=fast)
    views = model.config.model.detection.augment
    assert views.form == "detectron2"
    ours = model.predict(case.image, 0.0, augment=replace(views, resize_first=case.resized_first))
    with np.load(case.folder / f"case_tta_{case.name}.npz") as file:
        boxes, scores, classes = (torch.from_numpy(file[f"merged_{key}"]) for key in ("boxes", "scores", "classes"))
    found = Comparison()
    theirs = Rows(boxes, scores, classes + 1)
    found.same_rows("merged", Rows(ours.boxes, ours.scores, ours.labels), theirs, BOX, SCORE)
    assert len(scores) > 20
    expect_equal(found, f"augmentation, {'fast' if fast else 'readable'}")
