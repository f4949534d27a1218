"""What is wrong whatever weights hold is said before any are read."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated_sets import sound_content, write_json, write_pictures
from PIL import Image

import detector
from detector.commands.main import main
from detector.config import ConfigError, check_overrides
from detector.errors import UserError
from detector.inference.asked import as_fraction
from detector.weights import resolve
from detector.weights.files import SUFFIX


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A picture, annotations, and weights that whoever reads them fails."""

    def read(*_: Any) -> None:
        raise AssertionError("the weights are read")

    monkeypatch.setattr(resolve, "read_weights", read)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["faster-rcnn"])
    weights = tmp_path / f"w{SUFFIX}"
    weights.write_bytes(b"")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    write_pictures(tmp_path / "images", sound_content())
    return {
        "w": str(weights),
        "a.png": str(tmp_path / "a.png"),
        "gt": str(write_json(tmp_path / "gt.json", sound_content())),
        "images": str(tmp_path / "images"),
    }


CASES = {
    "predict a.png --weights w input.min_size_tset=64": r"unknown setting input\.min_size_tset\. Did you mean",
    "predict a.png --weights w input.min_size_test=-1": r"command line: input\.min_size_test=-1: choose ",
    "predict a.png --weights w input.min_size_test=large": r"input\.min_size_test",
    "predict a.png --weights w --config c.yaml": r"c\.yaml: there is no such config",
    "predict a.png --weights w w --config gt": "a config belongs to one file of weights",
    "predict a.png --weights w --plain --precision bfloat16": "belong to the fast execution",
    "predict a.png --weights w --precision tf32 --device cpu": "tf32 exists only on CUDA devices",
    "predict a.png --weights R101-C4-3x --config gt": "published weights bring their own config",
    "serve --weights w model.detection.score_threshold=2": r"score_threshold=2\.0: choose 0 to 1",
    "export --weights w out.onnx --config c.yaml": "there is no such config",
    "export --weights w out.onnx nonsense": r"overrides are written key\.path=value",
    "evaluate --weights w": r"no config\.yaml of a training run lies beside it",
    "evaluate --weights w --annotations gt --images images data.num_worker=1": "unknown setting data",
    "evaluate --weights w --annotations gt --images images --num-workers -1": r"data\.num_workers=-1: choose 0",
    "evaluate --weights w data=nowhere": "nowhere",
    "evaluate --weights w data=gt --split test": "names no test split",
    "check-data gt --images images --weights w --against other.json": r"other\.json: cannot read the other split",
    "check-data gt --images images --weights w --sheet gt": "is a file; --sheet names a folder",
    "check-data gt --images images --weights w --report images": "is a folder; --report writes a file",
    "check-data gt --images nowhere --weights w": "no such folder",
    "check-data data=nowhere --weights w": "nowhere",
    "check-data nowhere --images images --weights w": "no such file or folder of annotations",
    "convert-weights w out.safetensors --annotations other.json": r"other\.json: there is no such file",
    "convert-weights w out.safetensors --config c.yaml": "there is no such config",
}


@pytest.mark.parametrize("words", CASES)
def test_it_is_said_before_weights_are_read(words: str, places: dict[str, Any]) -> None:
    given = [places.get(word, word) for word in words.split()]
    given = [f"data={places['gt']}" if word == "data=gt" else word for word in given]
    with pytest.raises(UserError, match=CASES[words]):
        main(given)


def test_sound_words_come_to_the_weights(places: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="the weights are read"):
        main(["predict", places["a.png"], "--weights", places["w"], "input.min_size_test=64"])


def test_a_setting_is_judged_alone_only_as_far_as_it_can_be() -> None:
    check_overrides(
        ["input.min_size_test=2000"]
    )  # more than the default max_size_test, and the config may have another
    check_overrides(["train.class_weights={a: 2}", "model.kind=fpn", "data.repeat_threshold=null", "lr=0.1"])
    for word in ("train.milestones=[-1]", "model.rpn.nms_threshold=2", "model.rpn.anchor_sizes=[]"):
        with pytest.raises(ConfigError, match=f"command line: {word.partition('=')[0]}"):
            check_overrides([word])


@pytest.mark.parametrize(
    ("weights", "how", "sentence"),
    [
        ("w", {"overrides": ["model.detection.score_threshold=2"]}, r"score_threshold=2\.0: choose 0 to 1"),
        ("w", {"overrides": "model.detection.score_threshold=2"}, r"score_threshold=2\.0: choose 0 to 1"),
        ("w", {"precision": "fp16"}, "precision='fp16': choose auto, float32, tf32 or bfloat16"),
        ("w", {"config": "c.yaml"}, "there is no such config"),
        ("", {}, "weights '': names nothing"),
        (None, {}, "weights cannot be a NoneType; give a path"),
        (b"w.pth", {}, "weights cannot be a bytes; give a path"),
        (["w", 5], {}, "weights cannot be a int; give a path"),
        ([], {}, "no weights are given"),
    ],
)
def test_python_is_told_too(places: dict[str, Any], weights: Any, how: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        detector.load(places["w"] if weights == "w" else weights, **how)


def test_fractions_are_numbers_of_any_type() -> None:
    assert [as_fraction(one, "x") for one in (0, 0.5, "0.5", np.float32(0.5), np.array(1))] == [0, 0.5, 0.5, 0.5, 1]
    for wrong in (-0.1, "half", None, [0.5, 0.5], math.nan):
        with pytest.raises(UserError, match=r"^x=.*: choose 0 to 1\.$"):
            as_fraction(wrong, "x")
