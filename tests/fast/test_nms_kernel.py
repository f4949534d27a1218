"""The kernel for NMS in Triton's interpreter, on the CPU: the same boxes as torchvision's, to the bit."""

import itertools
import math

import numpy as np
import pytest
import torch
from interpreted import kernels
from overlaps import ARRANGEMENTS, THRESHOLDS, arranged
from torch import Tensor

from detector.fast import nms

kernel = kernels("detector.fast.nms_kernel")
# 105 problems: seven arrangements by three thresholds by five counts, more than a block and less.
PROBLEMS = list(itertools.product(ARRANGEMENTS, THRESHOLDS, (1, 7, 64, 65, 90)))


@pytest.fixture(scope="module")
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("kind", ARRANGEMENTS)
def test_the_same_as_torchvisions(kind: str, generator: torch.Generator) -> None:
    problems = [problem for problem in PROBLEMS if problem[0] == kind]
    assert len(PROBLEMS) >= 100
    for _, threshold, count in problems:
        boxes = arranged(kind, count, generator)[None]
        valid = torch.ones(1, count, dtype=torch.bool)
        compare(boxes, valid, None, threshold, count)


@pytest.mark.parametrize("kind", ["clustered", "grid", "long chain"])
def test_several_sets_with_gaps_and_groups_and_fewer_wanted(kind: str, generator: torch.Generator) -> None:
    boxes = torch.stack([arranged(kind, 90, generator) for _ in range(2)])
    valid = torch.rand(2, 90, generator=generator) < 0.8
    groups = torch.randint(0, 3, (2, 90), generator=generator)
    compare(boxes, valid, groups, 0.5, 90)
    compare(boxes, valid, groups, 0.5, 20)
    compare(boxes, valid, None, 0.5, 20)


def test_many_are_kept_before(generator: torch.Generator) -> None:
    """More than are compared with at a time."""
    corners = torch.arange(150, dtype=torch.float32)[:, None] * torch.tensor([20.0, 0.0])
    apart = torch.cat((corners, corners + 10), dim=1)
    boxes = torch.cat((apart, apart[torch.randperm(150, generator=generator)[:20]]))[None]
    compare(boxes, torch.ones(1, 170, dtype=torch.bool), None, 0.5, 170)


def test_none_at_all() -> None:
    compare(torch.zeros(1, 0, 4), torch.zeros(1, 0, dtype=torch.bool), None, 0.5, 0)
    compare(torch.zeros(1, 3, 4), torch.zeros(1, 3, dtype=torch.bool), None, 0.5, 2)


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_float32_compares_as_float64_does(threshold: float) -> None:
    largest = kernel.largest_float32(threshold)
    assert largest <= threshold < float(np.nextafter(np.float32(largest), np.float32(math.inf)))


def compare(boxes: Tensor, valid: Tensor, groups: Tensor | None, threshold: float, count: int) -> None:
    found = kernel.scan_blocks(boxes, valid, groups, threshold, count)
    assert torch.equal(found, nms._by_torchvision(boxes, valid, groups, threshold, count))
