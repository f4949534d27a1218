"""The kernels for NMS in Triton's interpreter, on the CPU: the same boxes as torchvision's, to the bit, each way."""

import itertools
import math

import numpy as np
import pytest
import torch
from interpreted import kernels
from overlaps import ARRANGEMENTS, THRESHOLDS, arranged
from torch import Tensor

from detector.fast import nms

kernel, mask_kernel = kernels("detector.fast.nms_kernel"), kernels("detector.fast.nms_mask_kernel")
WAYS: dict[str, nms.Way] = {"in blocks": kernel.scan_blocks, "by a mask": mask_kernel.scan_mask}
# 105 problems: seven arrangements by three thresholds by five counts, more than a block and less.
PROBLEMS = list(itertools.product(ARRANGEMENTS, THRESHOLDS, (1, 7, 64, 65, 90)))


@pytest.fixture(scope="module")
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> nms.Way:
    """Each way in turn; words of kept boxes are read in several parts, as of thousands of boxes on a GPU, and words are
    made in few, since each costs the interpreter the same."""
    monkeypatch.setattr(mask_kernel, "KEPT", 32)
    monkeypatch.setattr(mask_kernel, "COLUMNS", 32)
    return WAYS[request.param]


@pytest.mark.parametrize("kind", ARRANGEMENTS)
def test_the_same_as_torchvisions(way: nms.Way, kind: str, generator: torch.Generator) -> None:
    problems = [problem for problem in PROBLEMS if problem[0] == kind]
    assert len(PROBLEMS) >= 100
    for _, threshold, count in problems:
        boxes = arranged(kind, count, generator)[None]
        valid = torch.ones(1, count, dtype=torch.bool)
        compare(way, boxes, valid, None, threshold, count)


@pytest.mark.parametrize("kind", ["clustered", "grid", "long chain"])
def test_several_sets_with_gaps_and_groups_and_fewer_wanted(
    way: nms.Way, kind: str, generator: torch.Generator
) -> None:
    boxes = torch.stack([arranged(kind, 90, generator) for _ in range(2)])
    valid = torch.rand(2, 90, generator=generator) < 0.8
    groups = torch.randint(0, 3, (2, 90), generator=generator)
    compare(way, boxes, valid, groups, 0.5, 90)
    compare(way, boxes, valid, groups, 0.5, 20)
    compare(way, boxes, valid, None, 0.5, 20)


@pytest.mark.parametrize("kind", ["spread", "chain"])
def test_more_than_three_blocks_and_more_wanted_than_there_are(
    way: nms.Way, kind: str, generator: torch.Generator
) -> None:
    boxes = torch.stack([arranged(kind, 200, generator) for _ in range(2)])
    valid = torch.rand(2, 200, generator=generator) < 0.9
    groups = torch.randint(0, 2, (2, 200), generator=generator)
    compare(way, boxes, valid, groups, 0.5, 210)
    compare(way, boxes, valid, None, 0.3, 70)


def test_many_are_kept_before(way: nms.Way, generator: torch.Generator) -> None:
    """More than are compared with at a time."""
    corners = torch.arange(150, dtype=torch.float32)[:, None] * torch.tensor([20.0, 0.0])
    apart = torch.cat((corners, corners + 10), dim=1)
    boxes = torch.cat((apart, apart[torch.randperm(150, generator=generator)[:20]]))[None]
    compare(way, boxes, torch.ones(1, 170, dtype=torch.bool), None, 0.5, 170)


def test_none_at_all(way: nms.Way) -> None:
    compare(way, torch.zeros(1, 0, 4), torch.zeros(1, 0, dtype=torch.bool), None, 0.5, 0)
    compare(way, torch.zeros(1, 3, 4), torch.zeros(1, 3, dtype=torch.bool), None, 0.5, 2)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, where a GPU just computes
def test_boxes_that_are_not_there_may_be_anything(way: nms.Way, generator: torch.Generator) -> None:
    boxes = arranged("clustered", 140, generator)[None]
    valid = torch.rand(1, 140, generator=generator) < 0.7
    for anything in (torch.nan, torch.inf):
        compare(way, boxes.where(valid[..., None], anything), valid, None, 0.5, 140)


def test_a_mask_is_made_where_many_are_wanted_and_it_is_not_too_large() -> None:
    assert mask_kernel.mask_pays(8, 6000, 1000)
    assert mask_kernel.mask_pays(4, 12000, 2000)
    assert not mask_kernel.mask_pays(1, 6000, 100)
    assert not mask_kernel.mask_pays(8, 12000, 2000)


@pytest.mark.parametrize(("count", "made"), [(256, "in blocks"), (257, "by a mask")])
def test_the_way_is_chosen_by_size(monkeypatch: pytest.MonkeyPatch, count: int, made: str) -> None:
    def named(name: str) -> nms.Way:
        return lambda *_problem: torch.tensor([list(WAYS).index(name)])

    monkeypatch.setattr(nms, "ways", lambda: tuple(map(named, WAYS)))
    boxes, valid = torch.zeros(1, 300, 4), torch.ones(1, 300, dtype=torch.bool)
    assert list(WAYS)[nms._by_kernel(boxes, valid, None, 0.5, count).item()] == made


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_float32_compares_as_float64_does(threshold: float) -> None:
    largest = kernel.largest_float32(threshold)
    assert largest <= threshold < float(np.nextafter(np.float32(largest), np.float32(math.inf)))


def compare(way: nms.Way, boxes: Tensor, valid: Tensor, groups: Tensor | None, threshold: float, count: int) -> None:
    kept = way(boxes, valid, groups, threshold, count)
    assert torch.equal(kept, nms._by_torchvision(boxes, valid, groups, threshold, count))
