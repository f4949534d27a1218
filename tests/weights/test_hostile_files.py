"""A hostile weights file of each kind: one sentence, exit code 2, within seconds, nothing written nor allocated."""

import io
import json
import os
import pickle
import shutil
import socket
import struct
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile import Call, compressed, torch_file
from memory_peak import peak_memory
from safetensors.torch import load_file, save, save_file
from tiny_models import tiny_config

import detector
from detector.categories import CategoryMap
from detector.command import run
from detector.model.build import build_model
from detector.weights.files import save_weights

SECONDS = 5.0  # of processor time
MEGABYTES = 500

Make = Callable[[Path], None]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound weights file of a network as small as there is."""
    config = tiny_config(backbone={"stem_channels": 2, "width": 1}, rpn={"channels": 4})
    path = tmp_path_factory.mktemp("sound") / "sound.safetensors"
    save_weights(path, build_model(config).state_dict(), config, CategoryMap.from_names(["a", "b", "c"]), {})
    return path


def refusal(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says that is given this file; it must keep the promise of this module."""
    before = snapshot(path.parent)
    began = time.process_time()
    with peak_memory() as peak, pytest.raises(SystemExit) as exit_info:
        run(lambda: (detector.load(path, device="cpu"), 0)[1])
    assert exit_info.value.code == 2
    assert time.process_time() - began < SECONDS
    assert peak.bytes < MEGABYTES * 1e6
    assert snapshot(path.parent) == before
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert said.err[:-1].isprintable()
    assert len(said.err) < 1500
    assert path.name in said.err
    return said.err


def snapshot(folder: Path) -> set[str]:
    return {str(path) for path in (*folder.rglob("*"), *Path.cwd().glob("*"))}


# Under any name


def special(kind: str, path: Path) -> None:
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a pipe":
        os.mkfifo(path.with_name("p"))
        path.symlink_to("p")
    elif kind == "link to itself":
        path.symlink_to(path.name)
    elif kind == "link to nothing":
        path.symlink_to("nothing")
    elif kind == "endless device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        folder = os.open(path.parent, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)
    elif kind == "hole":
        with open(path, "wb") as file:
            file.truncate(2**40)  # takes no room on the disk
    elif kind == "text":
        path.write_text("weights: yes\n" * 1000)
    elif kind == "web page":
        path.write_text("<!DOCTYPE html><html>" + "x" * 1000)
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(100_000))


SPECIAL = {
    "empty": "empty",
    "folder": "is a folder",
    "pipe": "is a named pipe",
    "link to a pipe": "is a named pipe",
    "link to itself": "there is no such file",
    "link to nothing": "there is no such file",
    "endless device": "is a device",
    "socket": "is a socket",
    "hole": "",
    "text": "",
    "web page": "",
    "noise": "",
}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pkl"])
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_of_weights(kind: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"w{suffix}"
    special(kind, path)
    assert SPECIAL[kind] in refusal(path, capsys)


@pytest.mark.parametrize("name", ["nul\0l.pth", "half\ud800.pth", "x" * 5000, "~nobody/x.pth", "\x1b[2J.pth", ""])
def test_names_that_are_none(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        run(lambda: (detector.load(name, device="cpu"), 0)[1])
    assert exit_info.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said[:-1].isprintable()
    assert len(said) < 600


# safetensors


def with_header(header: bytes, tensors: bytes = b"\0" * 64) -> bytes:
    return struct.pack("<Q", len(header)) + header + tensors


def entry(shape: list[Any], start: Any, end: Any, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def header(**entries: Any) -> bytes:
    return with_header(json.dumps(entries).encode())


HEADERS: dict[str, bytes] = {
    "length of an exabyte": struct.pack("<Q", 2**62) + b"{}",
    "negative length": struct.pack("<q", -1) + b"{}",
    "length beyond the file": struct.pack("<Q", 1000) + b"{}",
    "no length": b"\0\0\0",
    "not JSON": with_header(b"hello"),
    "deep JSON": with_header(b'{"a":' + b"[" * 500_000 + b"]" * 500_000 + b"}"),
    "a million tensors": with_header(
        b"{" + b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % i for i in range(130_000)) + b"}",
        b"",
    ),
    "a header of nine megabytes": with_header(b"{" + b" " * 9_000_000 + b"}"),
    "a terabyte": header(a=entry([2**38], 0, 2**40)),
    "a product beyond all numbers": header(a=entry([2**40, 2**40], 0, 64)),
    "overlapping": header(a=entry([16], 0, 64), b=entry([8], 0, 32)),
    "a gap": header(a=entry([4], 0, 16), b=entry([4], 48, 64)),
    "negative offsets": header(a=entry([16], -64, 0)),
    "offsets the wrong way": header(a=entry([16], 64, 0)),
    "offsets that are numbers of no kind": header(a=entry([16], 0.5, 1e300)),
    "a negative shape": header(a=entry([-4, -4], 0, 64)),
    "a shape of a million axes": header(a=entry([1] * 1_000_000, 0, 4), b=entry([15], 4, 64)),
    "an unknown type": header(a=entry([16], 0, 64, "F31")),
    "a type of no numbers": header(a=entry([64], 0, 64, "BOOL")),
    "metadata that are no texts": with_header(json.dumps({"__metadata__": {"detector": {"a": 1}}}).encode(), b""),
    "a tensor called metadata": header(__metadata__=entry([16], 0, 64)),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(HEADERS[name])
    refusal(path, capsys)


def test_a_header_of_a_hundred_megabytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.safetensors"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", 100_000_000))
        file.truncate(200_000_000)
    assert "its header claims 100000000 of 200000000 bytes" in refusal(path, capsys)


def metadata_of(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    metadata: dict[str, Any] = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["detector"])
    return metadata


def changed_settings(metadata: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The metadata with another value of a setting."""
    changed: dict[str, Any] = json.loads(json.dumps(metadata))
    holder = changed["config"]
    *parents, last = key.split(".")
    for parent in parents:
        holder = holder[parent]
    holder[last] = value
    return changed


BOUNDED = {
    "model.backbone.width": [10**6, 10**30, -1, 0, 1.5, "1e6", [1], None, True],
    "model.backbone.stem_channels": [10**9, 2**63],
    "model.backbone.depth": [10**6, 20, -18],
    "model.rpn.channels": [10**9],
    "model.rpn.anchor_sizes": [[32.0] * 10**6, [1e300], [], [[32]], 5],
    "model.rpn.anchor_ratios": [[1e-300], [0.5] * 1000],
    "model.rpn.pre_nms_top_n_test": [2**62, 10**30, 0],
    "model.rpn.post_nms_top_n_test": [10**9],
    "model.rpn.delta_weights": [[1e-300] * 4, [1] * 5],
    "model.roi.pooled_size": [10**6],
    "model.roi.sampling_ratio": [10**6, -1],
    "model.detection.max_per_image": [10**12],
    "model.num_classes": [10**9, -3],
    "input.pad_to_multiple": [10**7, 0],
    "input.min_size_test": [10**9],
    "input.max_size_test": [10**9],
    "input.pixel_std": [[0, 0, 0], [1e-300] * 3],
    "input.resize": ["\x1b[2J", {"a": "b"}],
    "model.no_such": [1],
}


@pytest.mark.parametrize("key", BOUNDED)
def test_settings_beyond_all_use(key: str, ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, sound, tensors = tmp_path / "w.safetensors", metadata_of(ours), load_file(ours)
    for value in BOUNDED[key]:
        save_file(tensors, path, {"detector": json.dumps(changed_settings(sound, key, value))})
        assert key in refusal(path, capsys)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "[" * 2000])
@pytest.mark.parametrize("key", ["model.rpn.nms_threshold", "input.pixel_mean"])
def test_settings_that_are_no_numbers(
    key: str, text: str, ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "w.safetensors"
    value = "<here>" if key.endswith("threshold") else ["<here>", 1, 1]
    stored = json.dumps(changed_settings(metadata_of(ours), key, value)).replace('"<here>"', text)
    save_file(load_file(ours), path, {"detector": stored})
    refusal(path, capsys)


SETTINGS_OF_ANOTHER = {
    "model.backbone.depth": 152,
    "model.backbone.width": 512,
    "model.backbone.norm": "group",
    "model.rpn.channels": 16_384,
    "model.rpn.anchor_sizes": [32.0] * 32,
}


@pytest.mark.parametrize("key", SETTINGS_OF_ANOTHER)
def test_a_model_that_is_not_that_of_the_tensors_is_never_made(
    key: str, ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The widest would take 15 GB."""
    path = tmp_path / "w.safetensors"
    changed = changed_settings(metadata_of(ours), key, SETTINGS_OF_ANOTHER[key])
    save_file(load_file(ours), path, {"detector": json.dumps(changed)})
    assert "its tensors are not those of the model" in refusal(path, capsys)


CATEGORIES: dict[str, Any] = {
    "too few": [{"id": 1, "name": "a"}],
    "none": [],
    "a million": [{"id": i, "name": "a"} for i in range(100_000)],
    "an id twice": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}, {"id": 2, "name": "c"}],
    "a long name": [{"id": 1, "name": "x" * 10_000}, {"id": 2, "name": "b"}, {"id": 3, "name": "c"}],
    "half a character": [{"id": 1, "name": "\ud800"}, {"id": 2, "name": "b"}, {"id": 3, "name": "c"}],
    "ids of no kind": [{"id": i, "name": "a"} for i in (1, True, 2.5)],
    "a huge id": [{"id": 10**100, "name": "a"}, {"id": 2, "name": "b"}, {"id": 3, "name": "c"}],
    "names of no kind": [{"id": 1, "name": ["a"] * 100_000}, {"id": 2, "name": None}, {"id": 3, "name": {}}],
    "no list": {"id": 1},
    "null": None,
}


@pytest.mark.parametrize("name", CATEGORIES)
def test_categories(name: str, ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.safetensors"
    changed = metadata_of(ours) | {"categories": CATEGORIES[name]}
    save_file(load_file(ours), path, {"detector": json.dumps(changed)})
    refusal(path, capsys)


def test_tensors_that_are_not_finite(ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import hashlib

    path, tensors, stored = tmp_path / "w.safetensors", load_file(ours), metadata_of(ours)
    tensors["rpn.conv.bias"][1] = float("nan")
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(f"{key} {tensors[key].dtype} {tuple(tensors[key].shape)};".encode())
        digest.update(tensors[key].reshape(-1).view(torch.uint8).numpy().data)
    save_file(tensors, path, {"detector": json.dumps(stored | {"sha256": digest.hexdigest()})})
    assert "rpn.conv.bias holds NaN or infinity in 1 of its 4 numbers" in refusal(path, capsys)


def test_names_of_tensors_cannot_command_a_terminal(
    ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, tensors = tmp_path / "w.safetensors", load_file(ours)
    tensors["a\n2026-01-01 finished\x1b[2J\u202e"] = torch.ones(1)
    save_file(tensors, path, {"detector": json.dumps(metadata_of(ours))})
    assert r"left over (1): a\n2026-01-01 finished\x1b[2J\u202e" in refusal(path, capsys)


# .pth: archives and pickles


def nested_lists(count: int) -> bytes:
    return b"\x80\x02" + b"]" * count + b"a" * (count - 1) + b"."


def archive(data_pkl: bytes, **more: bytes) -> bytes:
    """As torch.save makes them, with any pickle in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as new:
        new.writestr("archive/data.pkl", data_pkl)
        new.writestr("archive/version", b"3\n")
        for name, content in more.items():
            new.writestr(name, content)
    return file.getvalue()


def overlapping_archive() -> bytes:
    """Many entries of one list that share the bytes of one."""
    data = archive(pickle.dumps({}, 2), **{"archive/data/0": b"\0" * 100_000})
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    last = data.rindex(b"PK\x01\x02", 0, end)
    entries = data[start:end] + data[last:end] * 1000
    tail = bytearray(data[end:])
    struct.pack_into("<HHII", tail, 8, 1003, 1003, len(entries), start)
    return data[:start] + entries + bytes(tail)


EXPONENTIAL = b"\x80\x02}K\x01" + b"2\x86" * 40 + b"K\x01s."  # a key whose hash takes 2⁴⁰ steps

PICKLED: dict[str, Callable[[], bytes]] = {
    "deflated zeros": lambda: compressed(torch_file({"a": torch.zeros(25_000_000)})),
    "entries that share their bytes": overlapping_archive,
    "names that leave the folder": lambda: archive(b"\x80\x02}.", **{"../../../tmp/evil": b"x", "/etc/passwd": b"x"}),
    "a list of a hundred thousand entries": lambda: archive(
        b"\x80\x02}.", **{f"archive/data/{i}": b"" for i in range(20_000)}
    ),
    "no pickle": lambda: archive(b""),
    "lists in lists, in an archive": lambda: archive(nested_lists(1_000_000)),
    "lists in lists, legacy": lambda: torch_file({}, new_format=False)[:15] + nested_lists(1_000_000),
    "lists in lists, bare": lambda: nested_lists(1_000_000),
    "a key that takes for ever, in an archive": lambda: archive(EXPONENTIAL),
    "a key that takes for ever, bare": lambda: EXPONENTIAL,
    "a million strings": lambda: b"\x80\x02](" + b"X\x01\x00\x00\x00a" * 1_000_000 + b"e.",
    "a line without end": lambda: b"\x80\x02S'" + b"a" * 50_000_000,
    "bytes of an exabyte": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"abc.",
    "a memo of two billion": lambda: b"\x80\x02]r\xff\xff\xff\x7f0x.",
    "a call": lambda: pickle.dumps({"a": Call(os.mkdir, "canary")}),
    "a call, in an archive": lambda: torch_file({"a": Call(os.mkdir, "canary")}),
    "a call, legacy": lambda: torch_file({"a": Call(os.mkdir, "canary")}, new_format=False),
    "a tensor of a petabyte that is one number": lambda: torch_file({"a": torch.zeros(1).expand(2**20, 2**28)}),
    "a sparse tensor": lambda: torch_file({"a": torch.zeros(4, 4).to_sparse()}),
    "a tensor on no device": lambda: torch_file({"a": torch.zeros(4, device="meta")}),
    "complex numbers": lambda: torch_file({"a": torch.zeros(4, dtype=torch.complex64)}),
    "tensors under numbers": lambda: torch_file({1: torch.zeros(4)}),
    "a name of a million characters": lambda: torch_file({"x" * 1_000_000: torch.zeros(4)}),
    "a name that commands": lambda: torch_file({"\x1b[2J\n2026 done": torch.zeros(4)}),
    "thirty thousand tensors": lambda: pickle.dumps(dict.fromkeys(map(str, range(30_000)), 1), 2),
    "not finite": lambda: torch_file(
        {"conv1.weight": torch.full((2, 3, 7, 7), float("nan")), "layer1.0.conv1.weight": torch.zeros(1, 2, 3, 3)}
    ),
    "no tensors": lambda: torch_file({}),
    "a list": lambda: torch_file([torch.zeros(3)]),
    "a number": lambda: pickle.dumps(5),
    "tensors without an axis": lambda: torch_file(
        {"conv1.weight": torch.tensor(1.0), "layer1.0.conv1.weight": torch.tensor(1.0)}
    ),
    "tensors of no axis under our names": lambda: torch_file(
        {"backbone.conv1.weight": torch.tensor(1.0), "rpn.objectness.weight": torch.tensor(1.0)}
    ),
    "a pyramid of no axis under torchvision's names": lambda: torch_file(
        dict.fromkeys(
            (
                "backbone.fpn.inner_blocks.0.0.weight",
                "rpn.head.cls_logits.weight",
                "roi_heads.box_predictor.cls_score.weight",
            ),
            torch.tensor(1.0),
        )
    ),
    "tensors of no axis under torchvision's names": lambda: torch_file(
        {"rpn.head.cls_logits.weight": torch.tensor(1.0), "roi_heads.box_predictor.cls_score.weight": torch.tensor(1.0)}
    ),
}


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
@pytest.mark.parametrize("name", PICKLED)
def test_pickles_and_archives(
    name: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"w{suffix}"
    path.write_bytes(PICKLED[name]())
    refusal(path, capsys)
    assert not (tmp_path / "canary").exists()


def test_a_pickle_with_a_hole_of_gigabytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.pkl"
    with open(path, "wb") as file:
        file.write(b"\x80\x04\x8e" + struct.pack("<Q", 2**32))
        file.truncate(2**32 + 100)
    assert "one object of 4294967296 bytes" in refusal(path, capsys)


def test_the_sound_file_of_these_tests_loads(ours: Path, tmp_path: Path) -> None:
    """Else nothing above shows anything."""
    shutil.copy(ours, tmp_path / "w.safetensors")
    (tmp_path / "link.safetensors").symlink_to("w.safetensors")
    for name in ("w.safetensors", "link.safetensors"):
        assert detector.load(tmp_path / name, device="cpu").categories.names == ["a", "b", "c"]
    save_file(load_file(ours), tmp_path / "again.safetensors", {"detector": json.dumps(metadata_of(ours))})
    assert detector.load(tmp_path / "again.safetensors", device="cpu").categories.names == ["a", "b", "c"]
    assert save({"a": torch.ones(1)})
