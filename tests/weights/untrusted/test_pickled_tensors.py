"""Tensors of PyTorch in a plain pickle: read without calling anything of the file."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import Call, payload, torch_file

from detector.errors import UserError
from detector.weights.untrusted.foreign_file import read_foreign
from detector.weights.untrusted.torch_file import LEGACY_MAGIC

SHARED = torch.arange(12.0)
STATE = {
    "a": torch.randn(3, 4),
    "transposed": torch.randn(4, 2).t(),
    "part": SHARED[4:8],
    "other": SHARED[:2],
    "half": torch.randn(5).half(),
    "count": torch.tensor(7),
    "parameter": torch.nn.Parameter(torch.ones(2)),
}


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_they_come_back(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"model": STATE, "__author__": "someone"}, protocol=protocol))
    tensors = read_foreign(path).tensors
    assert list(tensors) == list(STATE)
    for name, tensor in STATE.items():
        assert torch.equal(tensors[name], tensor.detach().float() if tensor.is_floating_point() else tensor)


def rebuilt(*claim: Any) -> Call:
    return Call(torch._utils._rebuild_tensor_v2, torch.ones(4)._typed_storage(), *claim, False, {})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda canary: Call(torch.storage._load_from_bytes, torch_file(payload(canary), new_format=False)), "numbers"),
        (lambda canary: Call(torch.storage._load_from_bytes, torch_file(payload(canary))), "damaged"),
        (lambda canary: Call(torch._utils._rebuild_tensor_v2, payload(canary), 0, (1,), (1,)), r"\.system"),
        (lambda _: Call(torch._utils._rebuild_tensor_v2, b"", 0, (1,), (1,)), "without numbers"),
        (lambda _: rebuilt(0, (5,), (1,)), "does not lie within its 4 numbers"),
        (lambda _: rebuilt(-1, (2,), (1,)), "does not lie within its 4 numbers"),
        (lambda _: rebuilt(0, (2**40,), (0,)), r"claim more than the \d+ bytes"),
    ],
)
def test_what_is_no_tensor_is_refused(make: Any, said: str, tmp_path: Path) -> None:
    path, canary = tmp_path / "evil.pkl", tmp_path / "canary"
    path.write_bytes(pickle.dumps({"model": {"a": make(canary)}}))
    with pytest.raises(UserError, match=rf"evil\.pkl: .*{said}"):
        read_foreign(path)
    assert not canary.exists()


def test_a_storage_whose_reading_would_never_end_is_refused(tmp_path: Path) -> None:
    """Inside of the numbers lies a pickle with a tuple that stands for 2⁴⁰ items, all of which hashing would visit."""
    doubling = b"\x80\x02}(K\x01" + b"2\x86" * 40 + b"K\x01u."
    inner = b"".join([LEGACY_MAGIC, *(pickle.dumps(value, 2) for value in (1001, {})), doubling, pickle.dumps([], 2)])
    path = tmp_path / "bomb.pkl"
    path.write_bytes(pickle.dumps({"a": Call(torch.storage._load_from_bytes, inner)}))
    with pytest.raises(UserError, match=r"bomb\.pkl: refused, it has a tuple that stands for more than"):
        read_foreign(path)
