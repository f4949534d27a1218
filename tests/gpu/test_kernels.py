"""Kernels compiled for the GPU give what the CPU gives."""

import itertools

import pytest
import torch
from overlaps import ARRANGEMENTS, THRESHOLDS, arranged

from detector.fast import nms


@pytest.mark.usefixtures("real_cuda")
def test_the_kernel_for_nms_is_used() -> None:
    assert nms.kernel_fault(torch.device("cuda", 0)) is None


@pytest.mark.parametrize("kind", ARRANGEMENTS)
def test_nms_keeps_the_same_boxes(cuda: torch.device, kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for threshold, count in itertools.product(THRESHOLDS, (1, 64, 65, 1000, 3000)):
        boxes = torch.stack([arranged(kind, count, generator) for _ in range(2)])
        valid = torch.rand(2, count, generator=generator) < 0.9
        groups = torch.randint(0, 4, (2, count), generator=generator)
        for members, wanted in ((None, count), (groups, count), (None, 100)):
            expected = nms.survivors(boxes, valid, members, threshold, wanted)
            moved = [None if t is None else t.to(cuda) for t in (boxes, valid, members)]
            assert torch.equal(nms.survivors(*moved, threshold, wanted).cpu(), expected)  # type: ignore[arg-type]
