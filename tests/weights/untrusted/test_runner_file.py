"""Training checkpoints with objects of unknown classes: the weights come, and nothing of the objects is run."""

import argparse
import builtins
import collections
import datetime
import io
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile import Call, payload, torch_file

from detector.errors import UserError
from detector.weights.untrusted.foreign_file import read_foreign
from detector.weights.untrusted.inert_unpickle import Placeholder
from detector.weights.untrusted.runner_file import RunnerFile, read_runner_file

FORMATS = pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])


class HistoryBuffer:
    """As mmengine's: an object with arrays, whose methods are pickled as `getattr(HistoryBuffer, 'min')`."""

    def __init__(self) -> None:
        self.history = np.arange(3.0)

    def min(self) -> float:
        return float(self.history.min())


class CallableCall(Call):
    """A call whose result is called in turn: `getattr(os, "system")("…")`."""

    def __call__(self) -> None:
        raise AssertionError("only pickled")


@pytest.fixture(autouse=True)
def module_of_another_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The class is one of a module that is there only while the file is written."""
    module = types.ModuleType("mmengine_stand_in")
    module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mmengine_stand_in", module)
    monkeypatch.setattr(HistoryBuffer, "__module__", "mmengine_stand_in")


def weights() -> "collections.OrderedDict[str, torch.Tensor]":
    shared = torch.arange(12.0)
    return collections.OrderedDict(
        a=torch.randn(3, 4),
        transposed=torch.randn(4, 2).t(),
        part=shared[4:8],
        half=torch.randn(5).half(),
        count=torch.tensor(7),
        empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.ones(2)),
    )


def checkpoint(state: Any, **more: Any) -> dict[str, Any]:
    meta = {"epoch": 3, "cfg": "model = dict()", "dataset_meta": {"classes": ("a", "b")}, "seed": np.int64(11)}
    hub = {"log": HistoryBuffer(), "minimum": Call(getattr, HistoryBuffer, "min")}
    return {
        "meta": meta,
        "state_dict": state,
        "message_hub": hub,
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(1000)}}},
        "param_schedulers": [{"milestones": collections.Counter({8: 1})}, {1, 2}, Path("work_dir")],
        **more,
    }


def read(data: bytes) -> RunnerFile | None:
    return read_runner_file(io.BytesIO(data), "x.pth")


@FORMATS
def test_weights_and_notes_come_and_objects_do_not(new_format: bool, tmp_path: Path) -> None:
    state = weights()
    path = tmp_path / "epoch_3.pth"
    path.write_bytes(torch_file(checkpoint(state), new_format))
    read_back = read_foreign(path)
    assert list(read_back.tensors) == list(state)
    for name, tensor in state.items():
        assert torch.equal(read_back.tensors[name], tensor.float() if tensor.is_floating_point() else tensor)
    assert read_back.meta["dataset_meta"]["classes"] == ("a", "b")
    assert isinstance(read_back.meta["seed"], Placeholder)


@FORMATS
def test_it_says_what_it_left_out(new_format: bool) -> None:
    runner = read(torch_file(checkpoint(weights()), new_format))
    assert runner is not None
    assert {"mmengine_stand_in.HistoryBuffer", "__builtin__.getattr", "collections.Counter"} <= set(runner.left_out)


@FORMATS
@pytest.mark.parametrize(
    "make",
    [
        payload,
        lambda canary: Call(eval, f"open({str(canary)!r}, 'w')"),
        lambda _: Call(getattr, Call(__import__, "os"), "system"),
        lambda canary: Call(CallableCall(getattr, Call(__import__, "os"), "system"), f"touch {canary}"),
        lambda canary: Call(builtins.exec, f"open({str(canary)!r}, 'w')"),
        lambda canary: Call(setattr, HistoryBuffer, "min", Call(eval, f"open({str(canary)!r}, 'w')")),
    ],
)
@pytest.mark.parametrize("place", ["message_hub", "optimizer", "param_schedulers"])
def test_calls_beside_the_weights_are_never_made(make: Any, place: str, new_format: bool, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    state = weights()
    runner = read(torch_file(checkpoint(state, **{place: {"log": make(canary)}}), new_format))
    assert runner is not None
    assert torch.equal(runner.state_dict["a"], state["a"])
    assert not canary.exists()


@FORMATS
@pytest.mark.parametrize("place", ["value", "mapping", "key", "meta"])
def test_a_call_where_weights_should_be_is_refused(place: str, new_format: bool, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    content = checkpoint(weights())
    if place == "value":
        content["state_dict"]["a"] = payload(canary)
    elif place == "key":
        content["state_dict"][payload(canary)] = torch.ones(1)
    else:
        content["state_dict" if place == "mapping" else "meta"] = payload(canary)
    path = tmp_path / "evil.pth"
    path.write_bytes(torch_file(content, new_format))
    with pytest.raises(UserError, match=r"evil\.pth: "):
        read_foreign(path)
    assert not canary.exists()


ARGUMENTS = argparse.Namespace(
    output=Path("runs"), lr=np.float64(0.02), when=datetime.date(2026, 1, 2), milestones=collections.Counter({8: 1})
)


@FORMATS
@pytest.mark.parametrize(
    "make",
    [
        lambda state: {"model": state, "optimizer": {}, "args": ARGUMENTS, "epoch": 25},  # torchvision's references
        lambda state: {"epoch": 3, "model_state_dict": state, "best_map": np.float64(0.5), "classes": {"a", "b"}},
        lambda state: {"state_dict": state, "hyper_parameters": ARGUMENTS, "rng": np.arange(3)},  # Lightning's
    ],
)
def test_other_training_checkpoints_with_plain_data_beside_the_weights(
    make: Any, new_format: bool, tmp_path: Path
) -> None:
    state, path = weights(), tmp_path / "model_25.pth"
    path.write_bytes(torch_file(make(state), new_format))
    tensors = read_foreign(path).tensors
    assert list(tensors) == list(state)
    assert torch.equal(tensors["transposed"], state["transposed"])


@FORMATS
def test_what_hides_behind_plain_data_is_named(new_format: bool, tmp_path: Path) -> None:
    path, canary = tmp_path / "model.pth", tmp_path / "canary"
    hidden = argparse.Namespace(lr=np.float64(0.1), command=payload(canary))
    path.write_bytes(torch_file({"model": weights(), "args": hidden}, new_format))
    with pytest.raises(UserError, match=r"model\.pth: refused, it wants (posix|nt)\.system, .* nothing of it was exec"):
        read_foreign(path)
    assert not canary.exists()


@pytest.mark.parametrize("content", [weights(), {"model": weights(), "epoch": 3}])
def test_files_of_newer_pickle_protocols(content: Any, tmp_path: Path) -> None:
    """`weights_only` reads protocol 2 alone."""
    path = tmp_path / "x.pth"
    torch.save(content, path, pickle_protocol=4)
    assert list(read_foreign(path).tensors) == list(weights())


def test_other_files_with_objects_stay_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(torch_file({"model": weights(), "trainer": HistoryBuffer()}))
    with pytest.raises(UserError, match=r"model\.pth: refused, it wants mmengine_stand_in\.HistoryBuffer"):
        read_foreign(path)


# Files made by hand, as no torch.save would


STORAGE = torch.arange(10.0)._typed_storage()


class Claimed:
    """Pickles as a tensor of any claim on ten numbers."""

    def __init__(self, offset: Any, shape: Any, strides: Any) -> None:
        self.claim = (offset, shape, strides)

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_tensor_v2, (STORAGE, *self.claim, False, collections.OrderedDict())


@FORMATS
@pytest.mark.parametrize(
    "claim",
    [
        (0, (11,), (1,)),
        (1, (10,), (1,)),
        (0, (2, 2), (9, 1)),
        (-1, (2,), (1,)),
        (0, (-2,), (1,)),
        (9, (2,), (-1,)),
        (0, (2,), (1, 1)),
        (0, [2], [1]),
        (0, (2.0,), (1,)),
        (0, (2**62, 2**62), (1, 1)),
        (0, (1,) * 9, (1,) * 9),
    ],
)
def test_a_tensor_beyond_its_numbers_is_refused(claim: tuple[Any, ...], new_format: bool) -> None:
    data = torch_file(checkpoint({"a": Claimed(*claim)}), new_format)
    with pytest.raises(
        UserError, match=r"^x\.pth: refused, a tensor of shape .* does not lie within its 10 numbers\.$"
    ):
        read(data)


@FORMATS
def test_a_tensor_that_repeats_its_numbers_without_end_is_refused(new_format: bool, tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    path.write_bytes(torch_file(checkpoint({"a": Claimed(0, (2**40,), (0,))}), new_format))
    with pytest.raises(UserError, match=r"claim more than the \d+ bytes"):
        read_foreign(path)


@FORMATS
@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_cut_files_are_damaged(share: float, new_format: bool, tmp_path: Path) -> None:
    data = torch_file(checkpoint({"a": torch.ones(5000)}), new_format)
    path = tmp_path / "cut.pth"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=r"cut\.pth: .*(damaged|refused)"):
        read_foreign(path)
