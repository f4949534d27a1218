"""Scoring a model, and a whole run, on a device that is only pretended."""

import copy
from pathlib import Path

import pytest
from device_cases import CPU, network, training_batch
from pretended_gpu import GPU, PretendedGPU
from safetensors.torch import load_file
from tiny_models import one_of, random_batch
from tiny_run import losses, tiny_config, write_dataset

from detector.categories import CategoryMap
from detector.fast.fuse import fuse
from detector.inference.detect import detect_dataset
from detector.training.engine import train
from detector.training.joint import build_joint
from detector.training.run.validation import validation_losses

CATEGORIES = CategoryMap.from_coco([{"id": 10 * i, "name": f"class {i}"} for i in (1, 2, 3)])
IMAGES = random_batch([(96, 128), (120, 100)])


def test_the_cpus_coco_results(gpu: PretendedGPU) -> None:
    model, _ = network("bottlenecks")
    pictures = [one_of(IMAGES, 0), one_of(IMAGES, 1)]
    expected = detect_dataset(fuse(model), pictures, CPU, CATEGORIES, progress=False)
    found = detect_dataset(fuse(copy.deepcopy(model).to(GPU)), pictures, GPU, CATEGORIES, progress=False)
    assert len(found) == len(expected) > 50
    assert {r["image_id"] for r in found} == {0, 1}
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-4)
    assert gpu.missing == {}


def test_the_cpus_validation_losses(gpu: PretendedGPU) -> None:
    model, config = network("bottlenecks")
    batch = training_batch()
    expected = validation_losses(build_joint(model, config.model), [batch], CPU, "float32")
    moved = copy.deepcopy(model).to(GPU)
    found = validation_losses(build_joint(moved, config.model), [batch], GPU, "float32")
    assert found == pytest.approx(expected, rel=1e-4)
    assert gpu.missing == {}


def test_a_whole_run_trains_evaluates_saves_and_goes_on(gpu: PretendedGPU, tmp_path: Path) -> None:
    """As on the CPU, a stop and a resume between its iterations included."""
    changes = ["train.iterations=4", "train.evaluate_every=2", "train.precision=float32", "train.ema_decay=0.9"]
    data = write_dataset(tmp_path / "data")
    train(tiny_config(data, *changes), tmp_path / "cpu", resume=False, overwrite=False, device="cpu")
    train(tiny_config(data, *changes, "train.iterations=2"), tmp_path / "gpu", False, False, "cuda")
    train(tiny_config(data, *changes), tmp_path / "gpu", resume=True, overwrite=False, device="cuda")
    expected, found = losses(tmp_path / "cpu"), losses(tmp_path / "gpu")
    assert sorted(found) == [1, 2, 3, 4]
    for iteration, of_step in expected.items():
        assert found[iteration] == pytest.approx(of_step, rel=2e-3)
    for name in ("model_final.safetensors", "model_best.safetensors"):
        ours, theirs = load_file(tmp_path / "gpu" / name), load_file(tmp_path / "cpu" / name)
        assert ours.keys() == theirs.keys()
        assert all((ours[key].float() - theirs[key].float()).abs().max() < 1e-2 for key in theirs)
    assert (tmp_path / "gpu" / "evaluation" / "metrics.json").is_file()
    assert gpu.missing == {}
