"""Our weights file: what goes in comes out, and nothing torn, damaged or foreign is taken for weights."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from detector.categories import Category, CategoryMap
from detector.config import Config, ModelConfig
from detector.errors import UserError
from detector.weights import files
from detector.weights.files import read_weights, save_weights

CATEGORIES = CategoryMap((Category(3, "cat"), Category(7, "Öl, rot"), Category(90, "dog")))
CONFIG = Config(model=ModelConfig(num_classes=3))


def some_weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "backbone.conv1.weight": torch.randn(4, 3, 7, 7).to(memory_format=torch.channels_last),
        "backbone.norm1.running_var": torch.rand(4),
        "backbone.norm1.num_batches_tracked": torch.tensor(12345),
        "roi_head.cls_score.weight": torch.randn(4, 8),
    }


def save(path: Path, **changes: Any) -> Path:
    given: dict[str, Any] = {
        "state_dict": some_weights(),
        "config": CONFIG,
        "categories": CATEGORIES,
        "provenance": {"trained_on": "ünit tests", "AP": 0.411},
    }
    save_weights(path, **(given | changes))
    return path


def test_round_trip_is_exact(tmp_path: Path) -> None:
    read = read_weights(save(tmp_path / "new folder" / "w.safetensors"))
    expected = some_weights()
    assert read.state_dict.keys() == expected.keys()
    assert all(torch.equal(read.state_dict[name], expected[name]) for name in expected)
    assert read.config == CONFIG
    assert read.categories == CATEGORIES
    assert read.provenance == {"trained_on": "ünit tests", "AP": 0.411}


def test_bfloat16_halves_matrices_and_spares_norms(tmp_path: Path) -> None:
    expected = some_weights()
    read = read_weights(save(tmp_path / "w.safetensors", dtype="bfloat16")).state_dict
    assert torch.equal(read["backbone.norm1.running_var"], expected["backbone.norm1.running_var"])
    assert torch.equal(read["backbone.conv1.weight"], expected["backbone.conv1.weight"].bfloat16().float())
    assert read["backbone.conv1.weight"].dtype == torch.float32
    full = save(tmp_path / "full.safetensors").stat().st_size
    saved = full - (tmp_path / "w.safetensors").stat().st_size
    assert abs(saved - 2 * (4 * 3 * 49 + 4 * 8)) <= 8  # headers are padded to multiples of 8


def test_tensors_that_share_memory_are_stored_twice(tmp_path: Path) -> None:
    shared = torch.randn(3, 3)
    read = read_weights(save(tmp_path / "w.safetensors", state_dict={"a": shared, "b": shared, "c": shared.t()}))
    assert torch.equal(read.state_dict["b"], shared)
    assert torch.equal(read.state_dict["c"], shared.t())


def test_backbone_alone_has_no_categories(tmp_path: Path) -> None:
    state = {"backbone.conv1.weight": torch.ones(1, 3, 7, 7)}
    path = save(tmp_path / "w.safetensors", state_dict=state, categories=CategoryMap(()))
    assert len(read_weights(path).categories) == 0


def test_categories_must_fit_the_class_scores(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        save(tmp_path / "w.safetensors", categories=CategoryMap(()))


@pytest.mark.parametrize("keep", [0, 1, 8, 100, 0.5, -1])
def test_torn_file_is_refused(tmp_path: Path, keep: float) -> None:
    path = save(tmp_path / "w.safetensors")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(UserError, match=r"w\.safetensors: not a complete safetensors file"):
        read_weights(path)


def test_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path / "w.safetensors")
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="do not match their checksum"):
        read_weights(path)


@pytest.mark.parametrize("content", [b"hello, I am text\n", b"<!DOCTYPE html><html></html>", b"\x80\x02}q\x00."])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a complete safetensors file"):
        read_weights(path)


def test_foreign_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"layer1.weight": torch.ones(2)}, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match="written by another program"):
        read_weights(path)


def test_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FORMAT_VERSION", 2)
    path = save(tmp_path / "w.safetensors")
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"format 2 .* upgrade"):
        read_weights(path)


def test_the_same_weights_are_the_same_bytes(tmp_path: Path) -> None:
    assert save(tmp_path / "a.safetensors").read_bytes() == save(tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {"model": {"num_clases": 3}}},
        {"config": []},
        {"config": None},
        {"categories": [{"id": 1}]},
        {"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]},
        {"categories": 5},
        {"provenance": []},
        {"format": None},
        {"sha256": None},
    ],
)
def test_unreadable_metadata_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "w.safetensors"
    tensors = {"a": torch.ones(2)}
    good = {"format": 1, "sha256": files._digest(tensors), "config": {}, "categories": [], "provenance": {}}
    save_file(tensors, path, metadata={"detector": json.dumps(good)})
    assert read_weights(path).config == Config()
    save_file(tensors, path, metadata={"detector": json.dumps(good | changes)})
    with pytest.raises(UserError, match=r"w\.safetensors"):
        read_weights(path)


@pytest.mark.parametrize("text", ["{", "[]", "5", "[" * 100_000])
def test_metadata_that_are_no_json_object(tmp_path: Path, text: str) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "w.safetensors", metadata={"detector": text})
    with pytest.raises(UserError, match=r"its metadata (cannot be read|are not a mapping)"):
        read_weights(tmp_path / "w.safetensors")


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such weights file"):
        read_weights(tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="no such weights file"):
        read_weights(tmp_path)


def test_the_final_name_is_given_to_a_complete_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "w.safetensors")
    complete = path.read_bytes()
    path.unlink()
    seen: list[bytes] = []

    def killed(partial: Path, final: Path) -> None:
        assert not final.exists()
        seen.append(partial.read_bytes())
        raise OSError(5, "killed here")

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(UserError, match="killed here"):
        save(path)
    assert seen == [complete]
    assert list(tmp_path.iterdir()) == []


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "w.safetensors")

    def no_room(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(UserError, match="No space left on device"):
        save(path, config=replace(CONFIG, model=ModelConfig(num_classes=3, weights="other")))
    monkeypatch.undo()
    assert read_weights(path).config == CONFIG
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
