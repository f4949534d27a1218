"""The restricted unpickler: numpy arrays in every layout that weights come in, and nothing that runs or explodes."""

import io
import os
import pickle
import random
import subprocess
import types
from collections import Counter, OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile import Call, lambda_pickle, object_array, payload
from memory_peak import peak_memory

from detector.errors import UserError
from detector.weights.untrusted import unpickle
from detector.weights.untrusted.unpickle import RefusedPickle, is_html, is_text


def read_pickle(data: bytes, source: str) -> Any:
    return unpickle.read_pickle(io.BytesIO(data), source)


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_and_plain_values_come_back(protocol: int) -> None:
    content = OrderedDict(
        model={
            "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
            "fortran": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
            "big endian": np.arange(4, dtype=">i4"),
            "half": np.array([1.5], dtype=np.float16),
            "empty": np.zeros((0, 4), dtype=np.float32),
            "flag": np.array(True),
            "nothing": np.zeros(3, dtype=np.int64)[:0],
        },
        author="someone",
        numbers=[1, 2.5, None, (True, b"bytes", "ü")],
        scalar=np.float64(0.25),
    )
    read = read_pickle(pickle.dumps(content, protocol), "x.pkl")
    assert list(read) == list(content)
    for name, array in content["model"].items():
        assert np.array_equal(read["model"][name], array), name
        assert read["model"][name].dtype == array.dtype.newbyteorder("="), name
    assert read["author"] == "someone"
    assert read["numbers"] == content["numbers"]
    assert read["scalar"] == 0.25


def test_python_2_layout(references: Path) -> None:
    data = (references / "msra_r50_w2_fused/backbone.pkl").read_bytes()
    assert b"numpy.core.multiarray" in data
    read = read_pickle(data, "backbone.pkl")
    trusted = pickle.loads(data, encoding="latin1")
    assert read.keys() == trusted.keys() > {"conv1_w", "res2_0_branch1_w"}
    assert all(np.array_equal(read[name], array) for name, array in trusted.items())


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("function", "name"), [(os.system, "system"), (eval, "eval"), (exec, "exec"), (subprocess.check_call, "check_call")]
)
def test_calls_are_refused_by_name(function: Any, name: str, protocol: int, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    data = pickle.dumps({"model": {"weight": np.ones(3), "evil": Call(function, f"touch {canary}")}}, protocol)
    with pytest.raises(
        RefusedPickle, match=rf"evil\.pkl: refused, it wants \w+\.{name}, .* nothing of it was executed"
    ):
        read_pickle(data, "evil.pkl")
    assert not canary.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_calls_hidden_in_object_arrays_are_refused(protocol: int, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    with pytest.raises(RefusedPickle, match="numpy array of type 'O8'"):
        read_pickle(pickle.dumps({"weight": object_array(canary)}, protocol), "evil.pkl")
    assert not canary.exists()
    pickle.loads(pickle.dumps(object_array(canary), protocol))
    assert canary.exists(), "the payload itself is harmless, so this test shows nothing"


def test_lambdas_and_functions_are_refused(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    with pytest.raises(RefusedPickle, match=r"builtins\.eval"):
        read_pickle(lambda_pickle(canary), "evil.pkl")
    assert not canary.exists()
    for function, name in ((types.FunctionType, "FunctionType"), (os.path.join, "join"), (Counter, "Counter")):
        with pytest.raises(RefusedPickle, match=f"{name}, and weights are numpy arrays"):
            read_pickle(pickle.dumps(function) if name != "FunctionType" else b"ctypes\nFunctionType\n.", "evil.pkl")


def test_a_call_written_as_text_is_refused_by_name(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    with pytest.raises(RefusedPickle, match=r"os\.system"):
        read_pickle(f"cos\nsystem\n(S'touch {canary}'\ntR.".encode(), "evil.pkl")
    assert not canary.exists()


REFUSED = {
    "torch tensor": (pickle.dumps({"weight": torch.ones(2)}), r"torch\._utils\._rebuild_tensor"),
    "text array": (pickle.dumps(np.array(["abc"])), "type 'U3'"),
    "complex array": (pickle.dumps(np.ones(2, dtype=complex)), "type 'c16'"),
    "record array": (pickle.dumps(np.zeros(2, dtype=[("a", "f4")])), "type 'V4'"),
    "masked array": (pickle.dumps(np.ma.masked_array([1.0], [True])), "numpy.ma"),
    "storage outside": (b"\x80\x02X\x07\x00\x00\x00storageQ.", "outside of the pickle"),
    "extension": (b"\x80\x02\x82\x01.", "registered extension 1"),
    "set": (pickle.dumps({1, 2}, protocol=4), "holds a set"),
    "bare function": (b"cnumpy.core.multiarray\n_reconstruct\n.", "a type or a function"),
    "text encoded otherwise": (b"c_codecs\nencode\n(Vabc\nVrot13\ntR.", "encodes text as 'rot13'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_weights_do_not_need_is_refused(case: str) -> None:
    data, wanted = REFUSED[case]
    with pytest.raises(RefusedPickle, match=wanted):
        read_pickle(data, "odd.pkl")


def array_claiming(shape: tuple[int, ...], data: bytes) -> bytes:
    """The pickle of a float32 array whose shape does not go with its bytes."""
    honest = pickle.dumps(np.frombuffer(data, dtype=np.float32), protocol=2)
    state = pickle.dumps((len(data) // 4,), protocol=2)[2:-1].split(b"q")[0]
    assert honest.count(state) == 1
    return honest.replace(state, pickle.dumps(shape, protocol=2)[2:-1].split(b"q")[0])


BOMBS = {
    "array of a terabyte": array_claiming((10**12,), b"\0" * 44),
    "array of negative length": array_claiming((-11,), b"\0" * 44),
    "call of ndarray": b"cnumpy\nndarray\n(L1000000000000L\ntR.",
    "created with a huge shape": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(L999999999999L\ntS'b'\ntR.",
    "memo of two billion": b"\x80\x02]r\xff\xff\xff\x7f0" + b"x.",
    "bytes of four gigabytes": b"\x80\x03B\xff\xff\xff\xffabc.",
    "bytes of a petabyte": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\x03\x00abc.",
    "bytearray of a petabyte": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\x03\x00abc.",
    "bytearray of four gigabytes": b"\x80\x05\x96\x00\x00\x00\x00\x01\x00\x00\x00abc.",
    "frame of an exabyte": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x0fabc.",
    "a hundred thousand lists in lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
}


@pytest.mark.parametrize("case", BOMBS)
def test_bombs_are_refused_without_the_memory_that_they_claim(case: str) -> None:
    with peak_memory() as peak, pytest.raises(UserError, match=r"^bomb\.pkl: "):
        read_pickle(BOMBS[case], "bomb.pkl")
    assert peak.bytes < 200e6


def test_shapes_and_bytes_must_agree() -> None:
    with pytest.raises(RefusedPickle, match=r"array of shape \(1000000000000,\) claims other than the 44 bytes"):
        read_pickle(BOMBS["array of a terabyte"], "bomb.pkl")
    with pytest.raises(RefusedPickle, match=r"array of shape \(-11,\)"):
        read_pickle(BOMBS["array of negative length"], "bomb.pkl")


def test_shared_containers_are_visited_once() -> None:
    nested: list[Any] = []
    for _ in range(14):
        nested = [nested] * 10  # 10¹⁴ lists, if each were visited
    assert len(read_pickle(pickle.dumps(nested), "x.pkl")) == 10


def test_cycles_end() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    assert read_pickle(pickle.dumps(cycle), "x.pkl") == [None]


@pytest.mark.parametrize("keep", [0, 1, 10, 100, 0.3, 0.5, 0.999])
def test_cut_files_are_damaged(keep: float) -> None:
    data = pickle.dumps({"weight": np.ones(1000), "bias": np.ones(10)})
    with pytest.raises(UserError, match="damaged or cut short"):
        read_pickle(data[: int(len(data) * keep) if isinstance(keep, float) else keep], "cut.pkl")


def test_text_is_called_text() -> None:
    with pytest.raises(UserError, match=r"^notes\.txt: this is a text file, not weights\.$"):
        read_pickle("Grüße, this is no pickle.\n".encode() * 100, "notes.txt")


def test_what_a_file_looks_like() -> None:
    assert is_html(b"\xef\xbb\xbf\n <!DOCTYPE html><html>")
    assert is_html(b"<HTML><head>")
    assert not is_html(b"\x80\x02}q\x00.")
    assert is_text("ü".encode() * 400)
    assert not is_text(b"\x80\x02}q\x00.")
    assert not is_text(b"")


def test_names_in_a_refusal_cannot_fill_or_control_the_terminal() -> None:
    for name in (b"sys\x1b[2Jtem", b"a" * 5000):
        with pytest.raises(RefusedPickle) as caught:
            read_pickle(b"cos\n" + name + b"\n.", "evil.pkl")
        assert len(str(caught.value)) < 300
        assert str(caught.value).isprintable()


def test_damage_anywhere_is_a_users_error() -> None:
    content = {"model": {"a": np.ones((2, 3), np.float32)}, "x": [1, (2.0, None)], "s": np.float64(1)}
    rng = random.Random(0)
    for trial in range(600):
        data = bytearray(pickle.dumps(content, protocol=trial % 6))
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        with suppress(UserError):  # anything else is a failure
            read_pickle(bytes(data), "x.pkl")


def test_a_refusal_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RefusedPickle) as caught:
        read_pickle(pickle.dumps(payload(tmp_path / "canary")), "evil.pkl")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
