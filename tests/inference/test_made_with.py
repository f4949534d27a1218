"""What detections were made with is told by all that decides about them, and by nothing else."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_config

from detector.inference.made_with import made_with
from detector.inference.output_folder import differences
from detector.inference.tiles import Tiling

CONFIG = tiny_config()


def made(weights: list[str], **changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "config": CONFIG,
        "changes": [],
        "score_threshold": 0.5,
        "precision": "float32",
        "augment": False,
        "tiling": None,
    }
    return made_with(weights, **(usual | changes))


def test_each_thing_that_matters_is_named(tmp_path: Path) -> None:
    one, same, other = (tmp_path / name for name in ("one.safetensors", "same.safetensors", "other.safetensors"))
    for path, content in ((one, b"1"), (same, b"1"), (other, b"2")):
        path.write_bytes(content)
    before = json.loads(json.dumps(made([str(one)])))
    assert differences(before, made([str(same)])) == ""
    assert differences(before, made([str(one)], changes=["input.max_pixels=1"])) == ""  # one model's are in its config
    for changed, words in (
        (made([str(other)]), "other weights"),
        (made(["R50-C4-3x"]), "other weights"),
        (made([str(one)], config=replace(CONFIG, input=replace(CONFIG.input, min_size_test=1))), "other settings"),
        (made([str(one)], score_threshold=0.4), "score threshold 0.5 (now 0.4)"),
        (made([str(one)], precision="bfloat16"), "precision float32 (now bfloat16)"),
        (made([str(one)], augment=True), "augment False (now True)"),
        (made([str(one)], tiling=Tiling(64, 0.2)), "tile none (now 64), tile overlap none (now 0.2)"),
    ):
        assert differences(before, changed) == words
    two = json.loads(json.dumps(made([str(one), str(other)])))
    assert differences(two, made([str(one), str(other)], changes=["input.max_pixels=1"])) == "other settings"
    assert differences(two, made([str(other), str(one)])) == "other weights"


@pytest.mark.parametrize("earlier", [{}, {"weights": ["x"], "of another version": 1}])
def test_unknown_words_are_differences(earlier: dict[str, Any]) -> None:
    assert differences(earlier, made(["R50-C4-3x"]))
