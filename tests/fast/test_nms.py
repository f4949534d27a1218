"""NMS in slots, as the operator that a GPU has as a kernel and a CPU through torchvision."""

import pytest
import torch
from overlaps import ARRANGEMENTS, arranged
from torch import Tensor
from torchvision.ops import nms

from detector.fast import nms as slots
from detector.fast.nms import survivors


def only(boxes: Tensor, threshold: float, count: int) -> list[int]:
    """The places of the survivors of one set."""
    places = survivors(boxes[None], torch.ones(1, len(boxes), dtype=torch.bool), None, threshold, count)[0]
    return places.tolist()


@pytest.mark.parametrize("kind", ARRANGEMENTS)
def test_the_same_as_torchvisions(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for count in (1, 64, 200):
        boxes = arranged(kind, count, generator)
        expected = nms(boxes, torch.linspace(1, 0, count), 0.5).tolist()
        assert only(boxes, 0.5, count) == expected + [-1] * (count - len(expected))
        assert only(boxes, 0.5, 3) == (expected + [-1] * 3)[:3]


def test_what_is_not_there_neither_stays_nor_suppresses() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [50, 0, 60, 10]]).expand(2, -1, -1)
    valid = torch.tensor([[False, True, True], [False, False, False]])
    assert survivors(boxes, valid, None, 0.5, 3).tolist() == [[1, 2, -1], [-1, -1, -1]]


def test_groups_are_thinned_out_alone() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [50, 0, 60, 10]]])
    groups = torch.tensor([[2, 1, 2, 1]])
    assert survivors(boxes, torch.ones(1, 4, dtype=torch.bool), groups, 0.5, 4).tolist() == [[0, 1, 3, -1]]


def test_nothing_at_all() -> None:
    none = survivors(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.bool), None, 0.5, 0)
    assert none.shape == (2, 0)
    assert none.dtype == torch.int64


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_kernel_that_is_not_right_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wrong: int
) -> None:
    ways: list[slots.Way] = [slots._by_torchvision, slots._by_torchvision]
    monkeypatch.setattr(slots, "ways", lambda: ways)
    slots.kernel_fault.cache_clear()
    assert slots.kernel_fault(torch.device("cpu")) is None
    ways[wrong] = lambda *problem: slots._by_torchvision(*problem).flip(1)
    slots.kernel_fault.cache_clear()
    assert slots.kernel_fault(torch.device("cpu")) == "its results are wrong"
    assert "through torchvision (its results are wrong)" in caplog.text

    def fails(*_problem: object) -> Tensor:
        raise RuntimeError("no compiler\nmore")

    ways[wrong] = fails
    slots.kernel_fault.cache_clear()
    assert slots.kernel_fault(torch.device("cpu")) == "RuntimeError: no compiler"
    slots.kernel_fault.cache_clear()


def test_a_kernel_is_tried_across_blocks_and_stops_before_the_last_survivor() -> None:
    boxes, valid, groups = slots.sample_problem(torch.device("cpu"))
    kept = survivors(boxes, valid, groups, 0.5, slots.SAMPLE_WANTED)
    assert (kept[:, -1] >= 64).all()
    assert (survivors(boxes, valid, groups, 0.5, slots.SAMPLE_WANTED + 1)[:, -1] >= 0).all()
