"""What is measured on: pictures, the scoring problem, and processes of their own."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarking import loading_speed
from benchmarking.measurements import Report
from benchmarking.peak_memory import can_measure, in_new_process
from benchmarking.sample_pictures import as_batch, load_picture, smaller, variants
from benchmarking.scoring_problem import make_problem
from benchmarking.scoring_speed import score
from benchmarking.what_to_measure import Settings
from PIL import Image

CPU = torch.device("cpu")


def test_the_rendered_picture_is_always_the_same_and_a_file_is_resized(tmp_path: Path) -> None:
    rendered = load_picture(None, (70, 90))
    assert rendered.shape == (70, 90, 3)
    assert np.array_equal(rendered, load_picture(None, (70, 90)))
    assert rendered.std() > 10
    Image.fromarray(np.full((20, 30, 3), 7, np.uint8)).save(tmp_path / "a.png")
    assert np.array_equal(load_picture(tmp_path / "a.png", (70, 90)), np.full((70, 90, 3), 7))


def test_pictures_of_a_batch_differ_and_are_padded() -> None:
    pixels = variants(load_picture(None, (70, 90)), 3)
    assert len({picture.numpy().tobytes() for picture in pixels}) == 3
    batch = as_batch(pixels, 32)
    assert batch.pixels.shape == (3, 3, 96, 96)
    assert batch.sizes == [(70, 90)] * 3
    assert not batch.pixels[:, :, 70:].any()
    assert smaller(torch.zeros(3, 800, 1216, dtype=torch.uint8)).shape == (3, 200, 304)


def test_both_evaluators_score_the_problem_alike() -> None:
    truth, detections = make_problem(0.01)
    assert len(truth.image_ids) == 50
    assert len(truth.boxes) == 360
    assert len(detections) == 5000
    slow, fast = (score(evaluator, 0.01, False) for evaluator in ("pycocotools", "hotcoco"))
    assert slow["metrics"] == fast["metrics"]
    assert slow["metrics"]["AP50"] > 0.01
    assert 0 < fast["evaluate"] < slow["evaluate"] < slow["whole"]


@pytest.mark.skipif(not can_measure(CPU), reason="the peak of a process is known on Linux alone")
def test_peak_memory_of_a_call() -> None:
    # In a process of its own: what other tests have freed would be given back during the call, or used again by it.
    program = """
import json, numpy, torch
from benchmarking.peak_memory import measure
kept = []
def call():
    kept.append(numpy.ones(50 * 2**20, numpy.uint8))
    numpy.ones(400 * 2**20, numpy.uint8)
print(json.dumps({"added": measure(call, torch.device("cpu")).added}))
"""
    assert 430 <= in_new_process(["-c", program], {})["added"] <= 500


@pytest.mark.parametrize("module", ["child_memory", "scoring_speed"])
def test_another_process_finds_this_package_from_anywhere(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program = f"import importlib.util; print(importlib.util.find_spec('benchmarking.{module}') is not None and 1)"
    assert in_new_process(["-c", program], {}) == 1


def test_another_process_answers_or_its_failure_is_ours() -> None:
    program = "import json, sys; print('hello'); print(json.dumps(1 / json.loads(sys.argv[1])['x']))"
    assert in_new_process(["-c", program], {"x": 4}) == 0.25
    with pytest.raises(subprocess.CalledProcessError):
        in_new_process(["-c", program], {"x": 0})


def test_loading_is_not_timed_when_pixels_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report(tmp_path / "report")
    monkeypatch.setattr(loading_speed, "_pillow_resize", lambda image: np.asarray(image) // 2)
    loading_speed.run(Settings(CPU, quick=True), report)
    assert "not resized as Pillow does" in report.refused[0]
    assert "images / s" not in report.write_markdown().read_text()
