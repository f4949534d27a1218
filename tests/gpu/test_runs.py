"""Whole runs on a GPU: training with a stop and a resume, and every command with `--device cuda`."""

import json
import subprocess
import sys
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
import tiny_run
import torch
from safetensors.torch import load_file
from tiny_models import tiny_config, tiny_model

from detector.categories import CategoryMap
from detector.config import save_config
from detector.errors import UserError
from detector.inference.predictor import Predictor
from detector.training.engine import train
from detector.weights.files import save_weights

CATEGORIES = CategoryMap.from_coco(tiny_run.CATEGORIES)


def test_a_run_that_is_resumed_ends_as_one_that_was_not(cuda: torch.device, tmp_path: Path) -> None:
    """To rounding: sums in atomic order differ between two runs on a GPU."""
    changes = ["train.iterations=6", "train.evaluate_every=3", "train.precision=float32", "train.ema_decay=0.9"]
    data = tiny_run.write_dataset(tmp_path / "data")
    for name, settings in (("cpu", changes), ("whole", changes), ("parts", [*changes, "train.iterations=3"])):
        train(tiny_run.tiny_config(data, *settings), tmp_path / name, device="cpu" if name == "cpu" else str(cuda))
    train(tiny_run.tiny_config(data, *changes), tmp_path / "parts", resume=True, device=str(cuda))
    losses = {name: tiny_run.losses(tmp_path / name) for name in ("cpu", "whole", "parts")}
    for name in ("whole", "parts"):
        assert sorted(losses[name]) == [1, 2, 3, 4, 5, 6]
        assert losses[name][1] == pytest.approx(losses["cpu"][1], rel=1e-3)
        assert losses[name][6] == pytest.approx(losses["cpu"][6], rel=3e-2)
    ours, theirs = (load_file(tmp_path / name / "model_final.safetensors") for name in ("parts", "whole"))
    assert all((ours[key].float() - theirs[key].float()).abs().max() < 2e-2 for key in theirs)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A small detector's file."""
    config = tiny_config(num_classes=2)
    path = tmp_path / "tiny.safetensors"
    save_weights(path, tiny_model(config).state_dict(), config, CATEGORIES, {})
    return path


def command(*words: str) -> str:
    """Run `python -m detector` to its end; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "detector", *words],
        cwd=tiny_run.PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.usefixtures("real_cuda")
def test_doctor() -> None:
    printed = command("doctor", "--device", "cuda")
    assert "nms and roi_align are right on cpu, cuda" in printed
    assert torch.cuda.get_device_name(0) in printed


@pytest.mark.usefixtures("real_cuda")
def test_train(tmp_path: Path) -> None:
    data = tiny_run.write_dataset(tmp_path / "data")
    save_config(tiny_run.tiny_config(data, "data.num_workers=1"), tmp_path / "tiny.yaml")
    words = ["--config", str(tmp_path / "tiny.yaml"), "--output", str(tmp_path / "run"), "--device", "cuda"]
    printed = command("train", *words)
    assert "bfloat16" in printed
    assert (tmp_path / "run" / "model_final.safetensors").is_file()
    memory = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().split("\n") if line]
    assert max(line.get("memory_bytes", 0) for line in memory) > 0


@pytest.mark.usefixtures("real_cuda")
@pytest.mark.parametrize("words", [[], ["--precision", "bfloat16"], ["--precision", "tf32"], ["--plain"]], ids=str)
def test_predict(weights: Path, tmp_path: Path, words: list[str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    output = tmp_path / "out"
    given = [str(tmp_path / "a.png"), "--weights", str(weights), "--device", "cuda", "--output", str(output)]
    assert "cuda" in command("predict", *given, *words)
    assert (output / "detections.json").is_file()


@pytest.mark.usefixtures("real_cuda")
def test_evaluate(weights: Path, tmp_path: Path) -> None:
    tiny_run.write_dataset(tmp_path / "data")
    found = {}
    for device in ("cpu", "cuda"):
        output = tmp_path / device
        words = ["--annotations", f"{tmp_path}/data/val.json", "--images", f"{tmp_path}/data/val"]
        command("evaluate", "--weights", str(weights), *words, "--device", device, "--output", str(output))
        found[device] = json.loads((output / "metrics.json").read_text())["AP"]
    assert found["cuda"] == pytest.approx(found["cpu"], abs=0.02)


@pytest.mark.usefixtures("real_cuda")
def test_benchmark(tmp_path: Path) -> None:
    words = ["--device", "cuda", "--quick", "--part", "inference", "training", "profile", "--output", str(tmp_path)]
    assert "inference ratios" in command("benchmark", *words)


# Out of memory


@pytest.mark.usefixtures("real_cuda")
def test_too_little_memory_is_one_sentence(tmp_path: Path) -> None:
    config = tiny_config(num_classes=2, inputs={"min_size_test": 1600, "max_size_test": 4000})
    predictor = Predictor(tiny_model(config).to("cuda"), config, CATEGORIES)
    data = tiny_run.write_dataset(tmp_path / "data")
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-3)  # some tens of MB
    try:
        with pytest.raises(UserError, match="cuda:0 does not have enough memory for 1 pictures of"):
            predictor.predict(np.zeros((800, 2000, 3), np.uint8))
        large = ["input.min_size_train=[1600]", "input.max_size_train=4000"]
        with pytest.raises(UserError, match=r"out of memory \(the step of iteration 1\): lower train.batch_size"):
            train(tiny_run.tiny_config(data, *large), tmp_path / "run", device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(predictor.predict(np.zeros((96, 128, 3), np.uint8))) >= 0


def test_what_the_device_refuses_is_one_sentence(cuda: torch.device) -> None:
    """As a full device says it, wherever in the network that is."""
    config = tiny_config(num_classes=2)
    predictor = Predictor(tiny_model(config).to(cuda), config, CATEGORIES)
    full = mock.Mock(side_effect=torch.OutOfMemoryError("CUDA out of memory"))
    with mock.patch.object(predictor.network, "forward", full), pytest.raises(UserError, match="enough memory"):
        predictor.predict(np.zeros((96, 128, 3), np.uint8))
