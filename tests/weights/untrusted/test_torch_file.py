"""Files of torch.save: tensors come, nothing is executed, and nothing unpacks to more than the file holds."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile import Call, compressed, object_array, payload, torch_file

from detector.errors import UserError
from detector.weights.untrusted import torch_file as module
from detector.weights.untrusted.torch_file import is_torch_file


def read_torch_file(data: bytes, source: str) -> Any:
    return module.read_torch_file(io.BytesIO(data), source)


@pytest.mark.parametrize("new_format", [True, False])
def test_tensors_come_back(new_format: bool) -> None:
    content = {"model": {"weight": torch.randn(3, 4), "count": torch.tensor(5)}, "iteration": 89_999}
    data = torch_file(content, new_format)
    assert is_torch_file(data)
    read = read_torch_file(data, "x.pth")
    assert torch.equal(read["model"]["weight"], content["model"]["weight"])
    assert read["model"]["count"] == 5
    assert read["iteration"] == 89_999


def test_pickles_are_no_torch_files() -> None:
    assert not is_torch_file(pickle.dumps({"a": 1}, protocol=2))
    assert not is_torch_file(b"")


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (payload, r"(posix|nt)\.system"),
        (object_array, r"numpy\._core\.multiarray\._reconstruct"),
        (lambda canary: Call(eval, f"open({str(canary)!r}, 'w')"), r"(builtins\.)?eval"),
        (lambda _: np.float64(1), r"numpy\._core\.multiarray\.scalar"),
        (lambda _: torch.nn.Linear(1, 1), r"torch\.nn\.modules\.linear\.Linear"),
    ],
)
def test_what_is_no_tensor_is_refused_by_name(make: Any, wanted: str, new_format: bool, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    data = torch_file({"model": {"weight": torch.ones(3)}, "trainer": make(canary)}, new_format)
    with pytest.raises(UserError, match=rf"^evil\.pth: refused, it wants {wanted}, .* nothing of it was executed\.$"):
        read_torch_file(data, "evil.pth")
    assert not canary.exists()


def test_zip_bomb_is_refused_by_what_it_would_unpack_to() -> None:
    bomb = compressed(torch_file({"weight": torch.zeros(25_000_000)}))
    assert len(bomb) < 200_000
    with pytest.raises(UserError, match=r"refused, its \d+ bytes would unpack to 1000\d{5}, and torch\.save does not"):
        read_torch_file(bomb, "bomb.pth")


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("keep", [20, 0.3, 0.9, -1])
def test_cut_files_are_damaged(keep: float, new_format: bool) -> None:
    data = torch_file({"weight": torch.ones(1000)}, new_format)
    with pytest.raises(
        UserError, match=r"^cut\.pth: not a complete file of torch\.save .* copy or download it again\.$"
    ):
        read_torch_file(data[: int(len(data) * keep) if isinstance(keep, float) else keep], "cut.pth")


def test_legacy_file_that_claims_more_than_it_holds_is_refused() -> None:
    data = torch_file({"weight": torch.ones(1000)}, new_format=False)
    thousand = b"M\xe8\x03"  # the pickled number 1000
    with pytest.raises(UserError, match="not a complete file"):
        read_torch_file(data.replace(thousand, b"J\xff\xff\xff\x7f"), "bomb.pth")
