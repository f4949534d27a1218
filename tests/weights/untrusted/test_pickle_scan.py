"""Pickles are measured without being run; what takes long to read is refused soon."""

import io
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile import torch_file

from detector.weights.untrusted.bounded_reader import MAX_LINE_BYTES, BoundedReader, TooLargeError
from detector.weights.untrusted.pickle_scan import MAX_INSTRUCTIONS, TooLongError, scan_pickle


def scan(data: bytes) -> None:
    scan_pickle(BoundedReader(io.BytesIO(data)))


@pytest.mark.parametrize("protocol", range(6))
def test_weights_pass_and_the_position_is_behind_them(protocol: int) -> None:
    content = {"model": {f"conv{i}": np.ones((2, 2)) for i in range(50)}, "list": [(1, (2, 3)), {4}, b"x"], "n": None}
    data = pickle.dumps(content, protocol)
    reader = BoundedReader(io.BytesIO(data + b"more"))
    scan_pickle(reader)
    assert reader.tell() == len(data)


def test_a_large_checkpoint_is_far_from_the_limit() -> None:
    import pickletools

    tensors = {f"backbone.conv4_x.{i}.norm1.running_var": torch.zeros(1) for i in range(1000)}
    state = {"model": tensors, "optimizer": {"state": {i: {"momentum_buffer": torch.zeros(1)} for i in range(500)}}}
    data = torch_file(state, new_format=False)
    file = io.BytesIO(data)
    count = sum(sum(1 for _ in pickletools.genops(file)) for _ in range(5))
    assert count < MAX_INSTRUCTIONS / 3


LONG = {
    "lists in lists": b"\x80\x02" + b"]" * 1_000_000 + b"a" * 999_999 + b".",
    "a list of numbers": b"\x80\x02](" + b"K\x01" * 1_000_000 + b"e.",
    "dicts in dicts": b"\x80\x02" + b"}K\x01" * 400_000 + b"N" + b"s" * 400_000 + b".",
    "marks": b"\x80\x02" + b"(" * 1_000_000 + b".",
    "puts": b"\x80\x02]" + b"q\x00" * 1_000_000 + b".",
}


@pytest.mark.parametrize("name", LONG)
def test_more_instructions_than_weights_have_are_refused(name: str) -> None:
    began = time.process_time()
    with pytest.raises(TooLongError, match=f"more than {MAX_INSTRUCTIONS} instructions"):
        scan(LONG[name])
    assert time.process_time() - began < 3


TUPLES = {
    "by duplicates": b"\x80\x02}K\x01" + b"2\x86" * 40 + b"K\x01s.",
    "by the memo": b"\x80\x02}K\x01q\x00" + b"h\x00h\x00\x86q\x000" * 40 + b"h\x00K\x01s.",
    "by memoizing": b"\x80\x04}K\x01" + b"".join(b"\x94h" + bytes([i]) + b"\x86" for i in range(40)) + b"K\x01s.",
    "behind a mark": b"\x80\x02}K\x01q\x00" + b"(h\x00h\x00h\x00tq\x00" * 40 + b"K\x01s.",
}


@pytest.mark.parametrize("name", TUPLES)
def test_tuples_that_take_for_ever_to_hash_are_refused(name: str) -> None:
    """Their hash as a key of a dict is computed down to the last item: 2⁴⁰ of them."""
    with pytest.raises(TooLongError, match="a tuple that stands for more than"):
        scan(TUPLES[name])


def test_reads_are_bounded_by_the_file_and_by_what_weights_need(tmp_path: Path) -> None:
    reader = BoundedReader(io.BytesIO(b"abc\ndef"))
    assert reader.read(2**62) == b"abc\ndef"
    reader.seek(0)
    assert (reader.readline(), reader.read(), reader.tell()) == (b"abc\n", b"def", 7)
    with pytest.raises(TooLargeError, match="a line of more than"):
        BoundedReader(io.BytesIO(b"x" * (MAX_LINE_BYTES + 1))).readline()
    with open(tmp_path / "hole", "wb") as file:
        file.truncate(2**32)  # takes no room on the disk
    with open(tmp_path / "hole", "rb") as hole, pytest.raises(TooLargeError, match="one object of 4294967296 bytes"):
        BoundedReader(hole).read(2**40)
