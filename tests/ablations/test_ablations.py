"""Proof that the parts do their work: what the quickstart recipe loses when one of them is taken away.

    python -m pytest -m slow tests/ablations -s        # trains twice; about a quarter of an hour on two cores

A finished quickstart run can be given by DETECTOR_QUICKSTART (its output folder), which saves the first training.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from detector.config import load_config
from detector.datasets.formats.open_dataset import open_dataset
from detector.datasets.loading.loader import evaluation_loader
from detector.evaluation.coco_eval import CocoMetrics, evaluate_coco
from detector.inference.detect import detect_dataset
from detector.inference.load import load

pytestmark = pytest.mark.slow


def train(project_root: Path, output: Path, *settings: str) -> None:
    command = [sys.executable, "tools/train_net.py", "--device", "cpu", "--output", str(output), *settings]
    subprocess.run(command, cwd=project_root, check=True)


@pytest.fixture(scope="module")
def quickstart(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a finished quickstart run."""
    given = os.environ.get("DETECTOR_QUICKSTART")
    output = Path(given) if given else tmp_path_factory.mktemp("quickstart") / "run"
    if not given:
        train(project_root, output)
    return output / "model_final.safetensors"


def score(weights: Path, change: Callable[[torch.nn.Module], None] | None = None) -> CocoMetrics:
    """AP on the val split of the run's config, after `change` has been done to the model."""
    predictor = load(weights, device="cpu")
    if change is not None:
        change(predictor.model)
    data = predictor.config.data
    assert data.val_annotations is not None
    assert data.val_images is not None
    dataset = open_dataset(data.format, data.val_annotations, data.val_images)
    loader = evaluation_loader(dataset, predictor.config)
    found = detect_dataset(predictor.model, loader, torch.device("cpu"), dataset.categories, progress=False)
    return evaluate_coco(dataset.to_coco(), found)


def zero(layer: torch.nn.Module) -> None:
    for parameter in layer.parameters():
        parameter.data.zero_()


def test_each_part_earns_its_average_precision(quickstart: Path) -> None:
    whole = score(quickstart)
    without_anchor_deltas = score(quickstart, lambda model: zero(model.rpn.anchor_deltas))
    without_box_regression = score(quickstart, lambda model: zero(model.roi_head.bbox_pred))
    without_objectness = score(quickstart, lambda model: zero(model.rpn.objectness))
    for name, metrics in (
        ("whole", whole),
        ("RPN deltas zeroed", without_anchor_deltas),
        ("box regression dropped", without_box_regression),
        ("objectness zeroed", without_objectness),
    ):
        print(f"{name:24} AP {metrics.AP:.3f}  AP50 {metrics.AP50:.3f}  AP75 {metrics.AP75:.3f}")
    assert whole.AP >= 0.45
    assert whole.AP50 >= 0.75
    # Proposals that stay anchors are coarse: the second stage corrects most of that, not all.
    assert without_anchor_deltas.AP < whole.AP - 0.02
    # Boxes as loose as proposals mostly still count at IoU 0.5, and often no longer at 0.75.
    assert without_box_regression.AP < whole.AP - 0.10
    assert without_box_regression.AP75 < whole.AP75 - 0.20
    assert whole.AP50 - without_box_regression.AP50 < whole.AP75 - without_box_regression.AP75
    # Proposals that know nothing of objects miss most of them.
    assert without_objectness.AP < 0.5 * whole.AP


def test_shuffled_labels_teach_no_classes(quickstart: Path, project_root: Path, tmp_path: Path) -> None:
    config = load_config(project_root / "configs" / "quickstart.yaml")
    assert config.data.train_annotations is not None
    contents = json.loads(Path(config.data.train_annotations).read_text())
    labels = np.array([row["category_id"] for row in contents["annotations"]])
    shuffled = np.random.default_rng(0).permutation(labels)
    for row, label in zip(contents["annotations"], shuffled.tolist(), strict=True):
        row["category_id"] = label
    (tmp_path / "shuffled.json").write_text(json.dumps(contents))
    train(project_root, tmp_path / "run", "data.generate=null", f"data.train_annotations={tmp_path / 'shuffled.json'}")
    whole = score(quickstart)
    metrics = score(tmp_path / "run" / "model_final.safetensors")
    print(f"labels shuffled          AP {metrics.AP:.3f}  AP50 {metrics.AP50:.3f}  AR100 {metrics.AR100:.3f}")
    # Boxes are learned all the same, and who guesses one class of six is right once in six.
    assert metrics.AR100 > 0.8 * whole.AR100
    assert metrics.AP < whole.AP / 4
