"""Files of other frameworks: recognised by content, unwrapped, and refused in one sentence if they are no weights."""

import gzip
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile import compressed, lambda_pickle, object_array, payload, torch_file
from safetensors.torch import save as to_safetensors

from detector.errors import UserError
from detector.weights.resolve import resolve_weights
from detector.weights.untrusted.foreign_file import read_foreign

WEIGHTS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.ones(2, dtype=np.float64)}
TENSORS = {name: torch.from_numpy(array) for name, array in WEIGHTS.items()}


def zipped(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def tarred(content: bytes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        entry = tarfile.TarInfo("weights.pth")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["model.pkl", "model.pth", "model"])
@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(WEIGHTS),
        pickle.dumps({"model": WEIGHTS, "__author__": "someone"}),
        pickle.dumps({"blobs": WEIGHTS, "cfg": "text"}),
        torch_file(TENSORS),
        to_safetensors(TENSORS, {"format": "pt"}),
        torch_file({"model": TENSORS, "iteration": 5, "optimizer": {"state": {0: torch.ones(9)}}}),
        torch_file({"state_dict": {f"module.{name}": tensor for name, tensor in TENSORS.items()}}),
        torch_file({"checkpoint": {"model": TENSORS, "ema": {"module": {"a.weight": torch.ones(1)}}}, "epoch": 2}),
        torch_file({"model": {name: torch.nn.Parameter(tensor) for name, tensor in TENSORS.items()}}, new_format=False),
    ],
)
def test_weights_are_found_wherever_they_lie_and_whatever_the_name(tmp_path: Path, name: str, content: bytes) -> None:
    tensors = read_foreign(write(tmp_path / name, content)).tensors
    assert tensors.keys() == WEIGHTS.keys()
    for key, tensor in tensors.items():
        assert tensor.dtype == torch.float32
        assert not tensor.requires_grad
        assert torch.equal(tensor.double(), torch.from_numpy(WEIGHTS[key]).double())


def test_integers_and_memory_formats(tmp_path: Path) -> None:
    tensors = {
        "count": torch.tensor(3),
        "half": torch.ones(2, dtype=torch.float16),
        "last": torch.arange(24.0).view(1, 2, 3, 4).to(memory_format=torch.channels_last),
    }
    read = read_foreign(write(tmp_path / "x.pth", torch_file(tensors))).tensors
    assert read["count"].dtype == torch.int64
    assert read["half"].dtype == torch.float32
    assert read["last"].is_contiguous()
    assert torch.equal(read["last"], tensors["last"])


def test_categories_that_we_wrote_come_back(tmp_path: Path) -> None:
    categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    path = write(tmp_path / "x.pth", torch_file({"model": TENSORS, "categories": categories}))
    found = read_foreign(path).categories
    assert found is not None
    assert found.names == ["cat", "dog"]
    for wrong in ([1, 2], [{"id": float("inf"), "name": "cat"}]):
        write(path, torch_file({"model": TENSORS, "categories": wrong}))
        with pytest.raises(UserError, match="not a list of ids and names"):
            read_foreign(path)


BAD_FILES: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "empty": (lambda _: b"", "the file is empty"),
    "web page": (lambda _: b"<!DOCTYPE html><html><body>404</body></html>", "a web page saved instead of weights"),
    "text": (lambda _: b"weights of mine\n", "this is a text file"),
    "a pointer": (lambda _: b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS; run `git lfs"),
    "Keras": (lambda _: b"\x89HDF\r\n\x1a\n" + bytes(600), "is an HDF5 file, as Keras writes"),
    "gzip": (lambda _: gzip.compress(torch_file(TENSORS)), "compressed by gzip; unpack it"),
    "tar": (lambda _: tarred(b"x" * 99), "is a tar archive; unpack it"),
    "ONNX": (lambda _: b"\x08\x0a\x12\x07pytorch" + bytes(99), "seems to be an exported ONNX model"),
    "zip": (lambda _: zipped({"best/weights.pth": b"x"}), r"is a zip archive \(holds 'best/weights\.pth'\)"),
    "npz": (lambda _: zipped({"a.npy": b"x", "b.npy": b"x"}), "is an archive of NumPy arrays"),
    "TorchScript": (
        lambda _: zipped({"net/data.pkl": b"", "net/code/__torch__.py": b"", "net/constants.pkl": b""}),
        "is a TorchScript program, and a program is not run",
    ),
    "noise": (lambda _: bytes(range(256)) * 10, "not a complete pickle"),
    "cut pickle": (lambda _: pickle.dumps(WEIGHTS)[:-40], "damaged or cut short"),
    "cut torch file": (lambda _: torch_file(TENSORS)[:-40], "damaged or cut short"),
    "os.system in a pickle": (lambda canary: pickle.dumps({"model": payload(canary)}), r"wants (posix|nt)\.system"),
    "os.system in a torch file": (lambda canary: torch_file({"model": payload(canary)}), r"wants (posix|nt)\.system"),
    "object array": (lambda canary: pickle.dumps({"model": {"a": object_array(canary)}}), "refused, .* type 'O8'"),
    "lambda": (lambda_pickle, r"refused, it wants builtins\.eval"),
    "zip bomb": (lambda _: compressed(torch_file({"a": torch.zeros(10_000_000)})), "would unpack to"),
    "expanded tensor": (lambda _: torch_file({"a": torch.zeros(1).expand(10**10)}), "claim more than the .* bytes"),
    "one storage for all": (lambda _: torch_file(dict.fromkeys("abcdefgh", torch.zeros(10_000))), "claim more than"),
    "one array for all": (lambda _: pickle.dumps(dict.fromkeys("abcdefgh", np.zeros(10_000))), "claim more than"),
    "not a dict": (lambda _: torch_file([torch.ones(3)]), "holds a list and no named weights"),
    "no weights": (lambda _: torch_file({"model": {}}), "holds no weights"),
    "an odd value": (lambda _: torch_file({"a": torch.ones(3), "b": "text"}), "'b' holds a str"),
    "a number for a name": (lambda _: torch_file({3: torch.ones(3)}), "3 holds a Tensor"),
    "sparse": (lambda _: torch_file({"a": torch.eye(3).to_sparse()}), "a is not a plain tensor"),
    "complex": (lambda _: torch_file({"a": torch.ones(3, dtype=torch.complex64)}), "a is not a plain tensor"),
}


@pytest.mark.parametrize("case", BAD_FILES)
@pytest.mark.parametrize("name", ["model.pkl", "model.pth"])
@pytest.mark.filterwarnings("ignore:.*sparse.*:UserWarning")
def test_what_is_no_weights_is_refused_in_one_sentence(tmp_path: Path, case: str, name: str) -> None:
    canary = tmp_path / "canary"
    make, message = BAD_FILES[case]
    path = write(tmp_path / name, make(canary))
    with pytest.raises(UserError, match=message) as caught:
        read_foreign(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 400
    assert not canary.exists()


def test_missing_and_enormous_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_foreign(tmp_path / "x.pkl")
    with pytest.raises(UserError, match="is a folder and not a file"):
        read_foreign(tmp_path)
    path = write(tmp_path / "x.pkl", pickle.dumps(WEIGHTS))
    monkeypatch.setattr("detector.weights.untrusted.foreign_file.MAX_BYTES", 10)
    with pytest.raises(UserError, match="too many for the weights of a detector"):
        read_foreign(path)


def test_all_names_or_none_lose_the_prefix(tmp_path: Path) -> None:
    mixed: dict[str, Any] = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert read_foreign(write(tmp_path / "x.pth", torch_file(mixed))).tensors.keys() == mixed.keys()


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="has no /proc")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_only_looks_like_a_file_is_one_sentence(tmp_path: Path, suffix: str) -> None:
    """Its first byte cannot be read, as on a broken disk."""
    path = tmp_path / f"w{suffix}"
    path.symlink_to("/proc/self/mem")
    with pytest.raises(UserError, match=r"w\.\w+: cannot read the weights \(Input/output error\)"):
        resolve_weights(path)
