"""Our weights file: what goes in comes out, and nothing torn, damaged or foreign is taken for weights."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_models import tiny_config
from torch import Tensor

from detector.categories import Category, CategoryMap
from detector.config import DataConfig, TrainConfig, config_to_dict
from detector.errors import UserError
from detector.model.build import build_model
from detector.weights import files
from detector.weights.files import read_weights, read_whole_config, save_weights

CATEGORIES = CategoryMap((Category(3, "cat"), Category(7, "Öl, rot"), Category(90, "dog")))
CONFIG = tiny_config(backbone={"stem_channels": 2, "width": 1, "norm": "batch"}, rpn={"channels": 4})


def some_weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    state = build_model(CONFIG).state_dict()
    state["backbone.conv1.weight"] = state["backbone.conv1.weight"].to(memory_format=torch.channels_last)
    state["backbone.norm1.num_batches_tracked"].fill_(12345)
    return state


def save(path: Path, **changes: Any) -> Path:
    given: dict[str, Any] = {
        "state_dict": some_weights(),
        "config": CONFIG,
        "categories": CATEGORIES,
        "provenance": {"trained_on": "ünit tests", "AP": 0.411},
    }
    save_weights(path, **(given | changes))
    return path


def stored_metadata(path: Path) -> dict[str, Any]:
    """What is stored beside the tensors, as it is."""
    with safe_open(path, "pt") as file:
        metadata: dict[str, Any] = json.loads(file.metadata()["detector"])
    return metadata


def test_round_trip_is_exact(tmp_path: Path) -> None:
    read = read_weights(save(tmp_path / "new folder" / "w.safetensors"))
    expected = some_weights()
    assert read.state_dict.keys() == expected.keys()
    assert all(torch.equal(read.state_dict[name], expected[name]) for name in expected)
    assert read.config == CONFIG
    assert read.categories == CATEGORIES
    assert read.provenance == {"trained_on": "ünit tests", "AP": 0.411}


WHOLE = replace(
    CONFIG,
    model=replace(CONFIG.model, weights="/home/me/a.pth", backbone=replace(CONFIG.model.backbone, weights="b.pth")),
    data=DataConfig(generate="shapes", val_annotations="/etc/val.json", val_images="/etc"),
    train=TrainConfig(iterations=5),
)


def test_a_file_carries_the_model_and_its_input_and_no_path(tmp_path: Path) -> None:
    path = save(tmp_path / "w.safetensors", config=WHOLE)
    stored = stored_metadata(path)["config"]
    assert stored.keys() == {"model", "input"}
    assert ".pth" not in json.dumps(stored)
    assert "val" not in json.dumps(stored)
    assert read_weights(path).config == CONFIG


def test_of_a_file_of_an_earlier_version_no_more_is_taken(tmp_path: Path) -> None:
    """It holds every setting of its run; whoever made it could otherwise choose what is read and written."""
    path = save(tmp_path / "w.safetensors")
    earlier = stored_metadata(path) | {"config": config_to_dict(WHOLE)}
    save_file(load_file(path), path, metadata={"detector": json.dumps(earlier)})
    assert read_weights(path).config == CONFIG
    assert read_whole_config(path) == WHOLE, "for comparing a checkpoint with its run"
    earlier["config"]["data"] = {"no such setting": ["x"] * 100}
    save_file(load_file(path), path, metadata={"detector": json.dumps(earlier)})
    assert read_weights(path).config == CONFIG


WRONG_TENSORS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    r"missing \(1\): rpn\.conv\.bias": lambda state: state.pop("rpn.conv.bias"),
    r"left over \(1\): more": lambda state: state.update(more=torch.ones(2)),
    r"rpn\.conv\.bias is \[5\] and should be \[4\]": lambda state: state.update({"rpn.conv.bias": torch.ones(5)}),
    r"rpn\.conv\.bias is \[\] and should be \[4\]": lambda state: state.update({"rpn.conv.bias": torch.tensor(1.0)}),
    r"left over \(40\): x0, .* and 32 more": lambda state: state.update({f"x{i}": torch.ones(1) for i in range(40)}),
}


@pytest.mark.parametrize("message", WRONG_TENSORS)
def test_tensors_of_another_model_are_refused_before_they_are_read(tmp_path: Path, message: str) -> None:
    state = some_weights()
    WRONG_TENSORS[message](state)
    path = save(tmp_path / "w.safetensors", state_dict=state)
    with pytest.raises(UserError, match=rf"w\.safetensors: its tensors are not those of the model .*{message}"):
        read_weights(path)


def test_other_classes_than_there_are_scores(tmp_path: Path) -> None:
    path = save(tmp_path / "w.safetensors")
    changed = stored_metadata(path) | {"categories": [{"id": 1, "name": "cat"}]}
    save_file(load_file(path), path, metadata={"detector": json.dumps(changed)})
    with pytest.raises(UserError, match="has 3 classes, but 1 categories are named"):
        read_weights(path)


def test_counters_of_batches_may_be_missing(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in some_weights().items() if not name.endswith(".num_batches_tracked")}
    assert read_weights(save(tmp_path / "w.safetensors", state_dict=state)).state_dict.keys() == state.keys()


def test_bfloat16_halves_matrices_and_spares_norms(tmp_path: Path) -> None:
    expected = some_weights()
    read = read_weights(save(tmp_path / "w.safetensors", dtype="bfloat16")).state_dict
    assert torch.equal(read["backbone.norm1.running_var"], expected["backbone.norm1.running_var"])
    assert torch.equal(read["backbone.conv1.weight"], expected["backbone.conv1.weight"].bfloat16().float())
    assert read["backbone.conv1.weight"].dtype == torch.float32
    full = save(tmp_path / "full.safetensors").stat().st_size
    saved = full - (tmp_path / "w.safetensors").stat().st_size
    matrices = sum(tensor.numel() for tensor in expected.values() if tensor.dim() >= 2)
    assert 0 <= saved - 2 * matrices <= 2 * len(expected)  # the header's numbers are shorter too


def test_tensors_that_share_memory_are_stored_twice(tmp_path: Path) -> None:
    shared = torch.randn(3, 3)
    path = save(tmp_path / "w.safetensors", state_dict={"a": shared, "b": shared, "c": shared.t()})
    read = read_weights(path, compare=False)
    assert torch.equal(read.state_dict["b"], shared)
    assert torch.equal(read.state_dict["c"], shared.t())


def test_backbone_alone_has_no_categories(tmp_path: Path) -> None:
    whole = some_weights()
    for prefixes in (("backbone.", "roi_head.conv5_x."), ("backbone.",)):
        state = {name: tensor for name, tensor in whole.items() if name.startswith(prefixes)}
        path = save(tmp_path / "w.safetensors", state_dict=state, categories=CategoryMap(()))
        assert len(read_weights(path).categories) == 0
        assert read_weights(path).state_dict.keys() == state.keys()
    del state["backbone.conv2_x.0.conv1.weight"]
    path = save(tmp_path / "w.safetensors", state_dict=state, categories=CategoryMap(()))
    with pytest.raises(UserError, match=r"missing \(1\): backbone\.conv2_x\.0\.conv1\.weight"):
        read_weights(path)


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
    good = stored_metadata(save(path))
    tensors = load_file(path)
    save_file(tensors, path, metadata={"detector": json.dumps(good)})
    assert read_weights(path).config == CONFIG
    save_file(tensors, path, metadata={"detector": json.dumps(good | changes)})
    with pytest.raises(UserError, match=r"w\.safetensors"):
        read_weights(path)


@pytest.mark.parametrize("text", ["{", "[]", "5", "[" * 100_000])
def test_metadata_that_are_no_json_object(tmp_path: Path, text: str) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "w.safetensors", metadata={"detector": text})
    with pytest.raises(UserError, match=r"its metadata (cannot be read|are not a mapping)"):
        read_weights(tmp_path / "w.safetensors")


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"w\.safetensors: cannot read the weights \(No such file or directory\)"):
        read_weights(tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="is a folder and not a file"):
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
        save(path, provenance={"other": 1})
    monkeypatch.undo()
    assert read_weights(path).provenance == {"trained_on": "ünit tests", "AP": 0.411}
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
