"""`infer.py photo --weights R101-C4-3x` as a user runs it: from a server, from the cache, and without a network."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from weights_server import serving

from detector.config import Config, ModelConfig
from detector.model.build import build_model
from detector.weights.lineages.coco_categories import COCO_CATEGORIES
from detector.weights.lineages.detectron2_export import write_detectron2
from detector.weights.published.catalogue import PUBLISHED

NAME = "R101-C4-3x"


def with_published_checksum(content: bytes) -> bytes:
    """`content` with bytes after its end (a pickle ends at its STOP) that give it the published MD5 prefix."""
    checksum = PUBLISHED[NAME].checksum
    assert checksum is not None
    start = hashlib.md5(content)
    number = 0
    while True:
        ending = number.to_bytes(8, "little")
        digest = start.copy()
        digest.update(ending)
        if digest.hexdigest().startswith(checksum[1]):
            return content + ending
        number += 1


def infer(project_root: Path, picture: Path, output: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "tools/infer.py", str(picture), "--weights", NAME, "--output", str(output)]
    command += ["--device", "cpu", "--score-threshold", "0.0", "input.min_size_test=128"]
    return subprocess.run(
        command,
        cwd=project_root,
        env={**os.environ, "no_proxy": "127.0.0.1", **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_without_a_network(project_root: Path, references: Path, tmp_path: Path) -> None:
    picture = next((references / "images").glob("coffee*"))
    result = infer(
        project_root, picture, tmp_path / "out", DETECTOR_CACHE=str(tmp_path / "cache"), DETECTOR_OFFLINE="1"
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    sentence = result.stderr.strip().splitlines()[-1]
    assert PUBLISHED[NAME].url in sentence
    assert str(tmp_path / "cache" / f"{NAME}.pkl") in sentence
    assert "DETECTOR_MIRROR" in sentence


@pytest.mark.slow
def test_from_a_mirror_and_then_from_the_cache(project_root: Path, references: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = Config(model=ModelConfig(num_classes=80))
    model = build_model(config)
    for name, tensor in model.state_dict().items():
        if name.endswith("norm3.weight"):
            tensor.fill_(0.3)  # sums of many blocks stay small
    torch.nn.init.normal_(model.roi_head.cls_score.weight, std=1.0)
    write_detectron2(tmp_path / "random.pkl", model.state_dict(), config, COCO_CATEGORIES)
    content = with_published_checksum((tmp_path / "random.pkl").read_bytes())
    picture = next((references / "images").glob("coffee*"))
    cache = {"DETECTOR_CACHE": str(tmp_path / "cache")}
    with serving(content) as server:
        first = infer(project_root, picture, tmp_path / "one", DETECTOR_MIRROR=server.address, **cache)
    assert first.returncode == 0, first.stderr
    assert server.requests == [PUBLISHED[NAME].url.removeprefix("https://dl.fbaipublicfiles.com")]
    found = json.loads((tmp_path / "one" / "detections.json").read_text())
    assert len(found) > 0
    assert {d["category_id"] for d in found} <= {c.id for c in COCO_CATEGORIES.categories}
    assert {d["category_name"] for d in found} <= set(COCO_CATEGORIES.names)
    second = infer(project_root, picture, tmp_path / "two", DETECTOR_OFFLINE="1", **cache)
    assert second.returncode == 0, second.stderr
    assert json.loads((tmp_path / "two" / "detections.json").read_text()) == found
