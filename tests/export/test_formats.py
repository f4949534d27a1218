"""Exported files: what they say of themselves, and that other programs find in them what the network finds."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_models import random_batch, tiny_config, tiny_model
from torch.export import ExportedProgram

from detector.categories import Category, CategoryMap
from detector.config import Config
from detector.errors import UserError
from detector.export.check import check_sizes, compare
from detector.export.description import describe, smallest_side
from detector.export.export_network import ExportNetwork
from detector.export.formats import RUNNERS, WRITERS, Format, format_of
from detector.export.program import trace
from detector.inference.predictor import Predictor

CATEGORIES = CategoryMap((Category(3, "cat"), Category(7, "dog"), Category(90, "猫")))
CLIENT = Path(__file__).parents[2] / "examples" / "onnx_client.py"

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra [export] is not installed",
)


@pytest.fixture(scope="module")
def config() -> Config:
    """With more proposals than the smaller pictures of the check have anchors."""
    rpn = {"pre_nms_top_n_test": 600, "post_nms_top_n_test": 300}
    return tiny_config(rpn=rpn, inputs={"min_size_test": 96, "max_size_test": 160})


@pytest.fixture(scope="module")
def program(config: Config) -> ExportedProgram:
    return trace(ExportNetwork(tiny_model(config)), 17)


def write(kind: Format, program: ExportedProgram, config: Config, path: Path) -> Path:
    WRITERS[kind](program, describe(config, CATEGORIES, {"trained_on": "noise"}, 17), path)
    return path


@pytest.fixture(scope="module")
def onnx_file(program: ExportedProgram, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write("onnx", program, config, tmp_path_factory.mktemp("onnx") / "model.onnx")


def assert_agrees(kind: Format, path: Path, config: Config) -> None:
    outcome = compare(tiny_model(config), RUNNERS[kind](path), check_sizes(config.input, 17)[1:], 1)
    assert outcome.differences == []
    assert {0, 1} < set(outcome.counts)
    assert max(outcome.counts) >= 30


@needs_onnx
def test_onnxruntime_finds_what_the_network_finds(onnx_file: Path, config: Config) -> None:
    assert_agrees("onnx", onnx_file, config)


@pytest.mark.slow
def test_a_pt2_file_finds_what_the_network_finds(program: ExportedProgram, config: Config, tmp_path: Path) -> None:
    path = write("pt2", program, config, tmp_path / "model.pt2")
    assert_agrees("pt2", path, config)
    extra = {"metadata.json": ""}
    torch.export.load(path, extra_files=extra)
    assert json.loads(extra["metadata.json"])["names"] == ["cat", "dog", "猫"]


@pytest.mark.slow
@needs_onnx
def test_openvino_finds_what_the_network_finds(program: ExportedProgram, config: Config, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    path = write("openvino", program, config, tmp_path / "openvino")
    assert_agrees("openvino", path, config)
    assert json.loads((path / "metadata.json").read_text(encoding="utf-8"))["names"] == ["cat", "dog", "猫"]


@needs_onnx
def test_an_onnx_file_says_what_goes_in_and_what_comes_out(onnx_file: Path, config: Config) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    facts = json.loads(session.get_modelmeta().custom_metadata_map["detector"])
    assert facts["names"] == ["cat", "dog", "猫"]
    assert [one["id"] for one in facts["categories"]] == [3, 7, 90]
    assert facts["input"] | {"min_size": 96, "max_size": 160, "resize": "pil", "smallest_side": 17} == facts["input"]
    assert facts["settings"]["input"]["pixel_mean"] == [123.675, 116.28, 103.53]
    assert facts["provenance"] == {"trained_on": "noise"}
    (image,) = session.get_inputs()
    assert (image.name, image.shape[:2]) == ("image", [1, 3])
    assert all(isinstance(side, str) for side in image.shape[2:])  # any height and width
    assert [output.name for output in session.get_outputs()] == ["boxes", "scores", "labels"]

    pixels = random_batch([(70, 50)]).pixels.float().numpy()
    (expected,) = tiny_model(config)(random_batch([(70, 50)]))  # the model's own threshold, when none is given
    assert len(session.run(None, {"image": pixels})[1]) == len(expected)


@needs_onnx
def test_the_example_client_finds_what_predict_finds(onnx_file: Path, config: Config, tmp_path: Path) -> None:
    picture = random_batch([(72, 90)]).pixels[0].permute(1, 2, 0).numpy()
    cv2.imwrite(str(tmp_path / "photo.png"), picture[..., ::-1])
    words = [sys.executable, str(CLIENT), str(onnx_file), "photo.png", "0.6", "drawn.png"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", check=True)

    # Enlarged as OpenCV does it, which is what the client has.
    same = replace(config, input=replace(config.input, resize="cv2"))
    detections = Predictor(tiny_model(config), same, CATEGORIES).predict(picture, 0.6)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == detections.names
    assert len(lines) > 5
    scores, boxes = (np.array([line[a:b] for line in lines], float) for a, b in ((1, 2), (2, 6)))
    assert np.abs(scores[:, 0] - detections.scores.numpy()).max() < 1e-3  # three digits are printed, and whole pixels
    assert np.abs(boxes - detections.boxes.numpy()).max() < 0.51
    assert cv2.imread(str(tmp_path / "drawn.png")).shape == picture.shape


def test_the_format_is_told_by_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert format_of(tmp_path / "a.onnx") == "onnx"
    assert format_of(tmp_path / "a.PT2") == "pt2"
    assert format_of(tmp_path / "openvino") == format_of(tmp_path) == "openvino"
    with pytest.raises(UserError, match=r"ends with \.onnx or \.pt2"):
        format_of(tmp_path / "a.engine")


def test_what_is_not_installed_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("onnx", "openvino") else name)
    with pytest.raises(UserError, match=r"needs onnx; run `pip install 'faster-rcnn\[export\]'`"):
        format_of(Path("a.onnx"))
    with pytest.raises(UserError, match="openvino"):
        format_of(Path("openvino"))


def test_the_smallest_side_gives_the_coarsest_map_two_rows() -> None:
    assert smallest_side(tiny_model(tiny_config())) == 17
