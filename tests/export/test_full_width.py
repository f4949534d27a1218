"""Networks as wide as the published ones, which tiny ones do not stand for: what takes long grows with the width."""

import importlib.util
from pathlib import Path

import pytest
import torch
from tiny_models import calibrate, random_batch, randomize_norms

from detector.categories import Category, CategoryMap
from detector.config import load_config
from detector.export.exporting import export
from detector.model.build import build_model

CATEGORIES = CategoryMap(tuple(Category(number, f"class {number}") for number in range(1, 81)))


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra [export] is not installed",
)
@pytest.mark.parametrize("kind", ["c4", "fpn"])
def test_the_file_of_a_resnet_50_finds_the_same(kind: str, tmp_path: Path) -> None:
    words = [f"model.kind={kind}", "model.backbone.depth=50", "model.num_classes=80"]
    words.append("input.pixel_std=[58.395,57.12,57.375]")
    config = load_config(None, words)
    torch.manual_seed(0)
    model = build_model(config).eval()
    randomize_norms(model)
    calibrate(model, random_batch([(64, 64)]))

    exported = export(model, config, CATEGORIES, {}, tmp_path / "model.onnx")

    comparison = exported.comparison
    assert comparison.differences == []
    assert {0, 1} < set(comparison.counts)
    assert max(comparison.counts) >= 30
    assert exported.path.stat().st_size == exported.size > 130e6  # every weight is inside
