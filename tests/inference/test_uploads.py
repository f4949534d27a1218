"""Batches go to the device beside what it computes."""

from contextlib import nullcontext
from unittest.mock import Mock, call

import pytest
import torch
from tiny_models import random_batch

from detector.inference import uploads
from detector.inference.uploads import copy_stream, uploaded
from detector.structures import ImageBatch

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
BATCHES = [random_batch([(8, 8)], seed=i) for i in range(3)]


def test_without_streams_each_is_moved_when_it_is_asked_for() -> None:
    assert copy_stream(CPU) is None
    for (batch, moved), expected in zip(uploaded(BATCHES, CPU), BATCHES, strict=True):
        assert batch is expected
        assert torch.equal(moved.pixels, expected.pixels)


def test_a_stream_of_its_own_copies_and_the_other_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    computing, copying = Mock(), Mock()
    pixels = [Mock(name=f"pixels {i}") for i in range(3)]
    moved = [ImageBatch(p, b.sizes, b.original_sizes, b.image_ids) for p, b in zip(pixels, BATCHES, strict=True)]
    given = [Mock(to=Mock(return_value=m)) for m in moved]
    monkeypatch.setattr(uploads, "copy_stream", lambda _device: copying)
    monkeypatch.setattr(torch.cuda, "stream", Mock(return_value=nullcontext()))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: computing)
    for i, (_, one) in enumerate(uploaded(given, GPU)):
        assert one is moved[i]
        assert given[i].to.mock_calls == [call(GPU, non_blocking=True)]
        assert torch.cuda.stream.call_count == i + 1  # type: ignore[attr-defined]
        assert computing.wait_stream.mock_calls == [call(copying)] * (i + 1)
        assert pixels[i].record_stream.mock_calls == [call(computing)]
        assert all(later.to.call_count == 0 for later in given[i + 1 :]), "nothing is fetched before it is its turn"
