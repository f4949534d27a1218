"""Broken weights and checkpoints: read, or refused in one sentence that names the file; nothing in them is executed."""

import itertools
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from fuzzing import mutate_bytes, mutate_tree, seeds, survive, to_json
from hostile import torch_file
from safetensors.torch import save
from tiny_models import tiny_config

import detector
from detector.categories import Category, CategoryMap, list_categories
from detector.model.build import build_model
from detector.training.state.checkpoint import (
    MANIFEST,
    Progress,
    TrainingState,
    load_checkpoint,
    save_checkpoint,
)
from detector.training.state.newest import load_newest
from detector.weights.files import METADATA_KEY, read_weights, save_weights
from detector.weights.resolve import resolve_weights
from detector.weights.untrusted.foreign_file import read_foreign

CATEGORIES = CategoryMap.from_names(["a", "b", "c"])


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A weights file of a network as small as there is."""
    config = tiny_config(backbone={"stem_channels": 2, "width": 1})
    path = tmp_path_factory.mktemp("weights") / "m.safetensors"
    save_weights(path, build_model(config).state_dict(), config, CATEGORIES, {"AP": 0.5})
    return path.read_bytes()


def split_safetensors(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and the tensors that follow it."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join_safetensors(header: bytes, tensors: bytes) -> bytes:
    """A file whose header may be anything."""
    return struct.pack("<Q", len(header)) + header + tensors


def pickled(protocol: int) -> bytes:
    """As detectron2's model zoo has them."""
    import pickle

    arrays = {f"conv{i}.weight": np.full((2, 2, 3, 3), i, np.float32) for i in range(4)}
    return pickle.dumps({"model": arrays, "__author__": "x", "matching_heuristics": True}, protocol=protocol)


def tensors() -> dict[str, Any]:
    return {"model": {f"module.conv{i}.weight": torch.full((2, 2, 3, 3), float(i)) for i in range(4)}, "iteration": 7}


def runner() -> dict[str, Any]:
    """As mmdetection's training leaves it, with an object of a class that weights do not need."""
    state = {f"rpn_head.conv{i}.weight": torch.full((2, 2, 3, 3), float(i)) for i in range(4)}
    meta = {"cfg": "model = dict(type='FasterRCNN', neck=[1, (2, -3.0)])", "dataset_meta": {"classes": ("a", "b")}}
    return {"meta": meta, "state_dict": state, "message_hub": Path("work_dir")}


FOREIGN: dict[str, Callable[[], bytes]] = {
    "zip.pth": lambda: torch_file(tensors()),
    "legacy.pth": lambda: torch_file(tensors(), new_format=False),
    "runner.pth": lambda: torch_file(runner()),
    "legacy_runner.pth": lambda: torch_file(runner(), new_format=False),
    "two.pkl": lambda: pickled(2),
    "four.pkl": lambda: pickled(4),
}


@pytest.mark.parametrize("numbers", seeds(5, 60))
@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_bytes(tmp_path: Path, name: str, numbers: range) -> None:
    good, path = FOREIGN[name](), tmp_path / name
    for seed in numbers:
        path.write_bytes(mutate_bytes(good, Random(seed)))
        survive(lambda: read_foreign(path), name, seed)
        survive(lambda: resolve_weights(path), name, seed)


@pytest.mark.parametrize("numbers", seeds(10, 120))
def test_our_bytes(tmp_path: Path, ours: bytes, numbers: range) -> None:
    path = tmp_path / "m.safetensors"
    for seed in numbers:
        path.write_bytes(mutate_bytes(ours, Random(seed)))
        survive(lambda: read_weights(path), path.name, seed)


@pytest.mark.parametrize("numbers", seeds(10, 150))
def test_our_metadata(tmp_path: Path, ours: bytes, numbers: range) -> None:
    """Well-formed safetensors whose config, categories or provenance say something else."""
    path = tmp_path / "m.safetensors"
    header, tensors = split_safetensors(ours)
    metadata = json.loads(header["__metadata__"][METADATA_KEY])
    for seed in numbers:
        random = Random(seed)
        text = to_json(mutate_tree(metadata, random)).decode()
        changed = json.dumps(header | {"__metadata__": {METADATA_KEY: text}}).encode()
        path.write_bytes(join_safetensors(changed, tensors))
        survive(lambda: read_weights(path), path.name, seed)


@pytest.mark.parametrize("numbers", seeds(5, 60))
def test_our_header(tmp_path: Path, ours: bytes, numbers: range) -> None:
    """Tensors that claim other types, shapes and places."""
    path = tmp_path / "m.safetensors"
    header, tensors = split_safetensors(ours)
    for seed in numbers:
        changed = to_json(mutate_tree(header, Random(seed)))
        path.write_bytes(join_safetensors(changed, tensors))
        survive(lambda: read_weights(path), path.name, seed)


def rewritten(ours: bytes, metadata: dict[str, Any], rename: str | None = None) -> bytes:
    """The file with other metadata, and with its first tensor under another name."""
    header, tensors = split_safetensors(ours)
    if rename is not None:
        header[rename] = header.pop("backbone.conv1.weight")
    header["__metadata__"] = {METADATA_KEY: json.dumps(metadata)}
    return join_safetensors(json.dumps(header).encode(), tensors)


def numbers_of(settings: dict[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The places of all numbers and lists of numbers among nested settings."""
    places = []
    for key, value in settings.items():
        if isinstance(value, dict):
            places += numbers_of(value, (*prefix, key))
        elif isinstance(value, (int, float, list)):
            places.append((*prefix, key))
    return places


def number(random: Random) -> Any:
    """Of any size, small ones as often as huge ones."""
    value = random.choice((1, -1)) * 10.0 ** random.uniform(-12, 30)
    return random.choice((value, int(value), round(value) + 1, 0, 1, 2, 7))


@pytest.mark.parametrize("numbers", seeds(10, 150))
def test_settings(tmp_path: Path, ours: bytes, numbers: range) -> None:
    """Well-formed settings whose numbers have any size: refused, or a model that can be made in a second."""
    path = tmp_path / "m.safetensors"
    header, _ = split_safetensors(ours)
    for seed in numbers:
        random = Random(seed)
        metadata = json.loads(header["__metadata__"][METADATA_KEY])
        for place in random.sample(numbers_of(metadata["config"]), random.randint(1, 3)):
            holder = metadata["config"]
            for key in place[:-1]:
                holder = holder[key]
            old = holder[place[-1]]
            count = random.choice((len(old), len(old), 0, 1, 40, 2000)) if isinstance(old, list) else 0
            holder[place[-1]] = [number(random) for _ in range(count)] if isinstance(old, list) else number(random)
        path.write_bytes(rewritten(ours, metadata))
        survive(lambda: detector.load(path, device="cpu", fast=False), path.name, seed)


def odd_name(random: Random) -> str:
    """Of letters of all scripts, controls, marks that turn the writing round, and halves of characters."""
    kinds = ((32, 126), (0, 31), (127, 159), (0x2028, 0x202E), (0x2066, 0x2069), (0xD800, 0xDFFF), (0x4E00, 0x9FFF))
    length = random.choice((0, 1, 5, 40, 499, 500, 501, 10_000))
    return "".join(chr(random.randint(*random.choice(kinds))) for _ in range(length))


@pytest.mark.parametrize("numbers", seeds(10, 100))
def test_names(tmp_path: Path, ours: bytes, numbers: range) -> None:
    """Names of classes, tensors and files, and in the provenance: what is said of them is one line without commands."""
    header, _ = split_safetensors(ours)
    for seed in numbers:
        random = Random(seed)
        metadata = json.loads(header["__metadata__"][METADATA_KEY])
        for category in metadata["categories"]:
            category["name"] = odd_name(random) if random.random() < 0.5 else category["name"]
        metadata["provenance"] = {odd_name(random): odd_name(random)}
        rename = odd_name(random).encode("utf-8", "replace").decode() if random.random() < 0.3 else None
        path = tmp_path / f"m{seed}.safetensors"
        path.write_bytes(rewritten(ours, metadata, rename))
        survive(lambda path=path: resolve_weights(path), path.name, seed)
        names = [odd_name(random) for _ in range(3)]
        assert list_categories([Category(i, name) for i, name in enumerate(names)]).isprintable()
        survive(lambda name=names[0]: resolve_weights(f"/tmp/{name}.pth"), ".pth", seed)


@pytest.mark.parametrize("numbers", seeds(20, 100))
def test_what_is_no_file(tmp_path: Path, ours: bytes, numbers: range) -> None:
    """Links in chains and rings, pipes, devices and folders, under every suffix."""
    for seed in numbers:
        random = Random(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        names = [f"{i}{random.choice(('.safetensors', '.pth', '.pkl', ''))}" for i in range(4)]
        last = folder / names[-1]
        kind = random.randrange(6)
        if kind == 0:
            os.mkfifo(last)
        elif kind == 1:
            last.mkdir()
        elif kind == 2:
            last.symlink_to(random.choice(("/dev/zero", "/dev/full", "/dev/null", "/proc/self/mem", "/proc/self/fd")))
        elif kind == 3:
            last.symlink_to(random.choice(names))
        elif kind == 4:
            last.write_bytes(ours)
        for name, target in itertools.pairwise(names):
            (folder / name).symlink_to(target)
        for name in names:
            survive(lambda path=folder / name: resolve_weights(path), name, seed)


@pytest.mark.parametrize("numbers", seeds(10, 100))
def test_sizes(tmp_path: Path, ours: bytes, numbers: range) -> None:
    """Files cut, and files with a hole that makes them as long as a disk; and a length of any size in what is read."""
    good = {"m.safetensors": ours} | {name: make() for name, make in FOREIGN.items()}
    for seed in numbers:
        random = Random(seed)
        name = random.choice(list(good))
        content = bytearray(good[name])
        if random.random() < 0.5:
            place = random.choice((0, random.randrange(len(content) - 8), len(content) - 22))
            struct.pack_into("<Q", content, place, random.getrandbits(random.choice((8, 32, 33, 40, 64))))
        with open(tmp_path / name, "wb") as file:
            file.write(content)
            file.truncate(random.choice((len(content), random.randrange(len(content)), 2 ** random.randrange(20, 42))))
        survive(lambda path=tmp_path / name: resolve_weights(path), name, seed)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config(backbone={"stem_channels": 2, "width": 1})
    state = build_model(config).state_dict()
    folder = tmp_path_factory.mktemp("checkpoints")
    training = TrainingState(
        config, CATEGORIES, 1, Progress(iteration=5), state, None, {"rpn.conv.bias": torch.ones(3)}
    )
    return save_checkpoint(folder, training)


@pytest.mark.parametrize("numbers", seeds(10, 100))
def test_checkpoints(tmp_path: Path, checkpoint: Path, numbers: range) -> None:
    for seed in numbers:
        random = Random(seed)
        folder = tmp_path / str(seed)
        path = folder / checkpoint.name
        shutil.copytree(checkpoint, path)
        file = random.choice(sorted(path.iterdir()))
        file.write_bytes(mutate_bytes(file.read_bytes(), random))
        survive(lambda path=path: load_checkpoint(path), path.name, seed)
        survive(lambda folder=folder: load_newest(folder, lambda _: None), path.name, seed)


@pytest.mark.parametrize("numbers", seeds(10, 100))
def test_checkpoints_with_right_sums(tmp_path: Path, checkpoint: Path, numbers: range) -> None:
    """What someone made, and not what a disk lost: the checksums are right, the contents are not."""
    import hashlib

    for seed in numbers:
        random = Random(seed)
        path = tmp_path / str(seed) / checkpoint.name
        shutil.copytree(checkpoint, path)
        name = random.choice(("progress.json", "momentum.safetensors", "model.safetensors"))
        good = (path / name).read_bytes()
        is_json = name == "progress.json" and random.random() < 0.7
        broken = to_json(mutate_tree(json.loads(good), random)) if is_json else mutate_bytes(good, random)
        (path / name).write_bytes(broken)
        manifest = json.loads((path / MANIFEST).read_text())
        manifest["sha256"][name] = hashlib.sha256(broken).hexdigest()
        (path / MANIFEST).write_text(json.dumps(manifest))
        survive(lambda path=path: load_checkpoint(path), path.name, seed)


def test_a_tensor_that_claims_a_terabyte(tmp_path: Path) -> None:
    data = save({"a": torch.zeros(4)})
    _, tensors = split_safetensors(data)
    header = {"a": {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}}
    changed = json.dumps(header).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(join_safetensors(changed, tensors))
    assert survive(lambda: read_weights(path), path.name, 0) is not None
    path.write_bytes(struct.pack("<Q", 2**62) + data[8:])
    assert survive(lambda: read_weights(path), path.name, 0) is not None
