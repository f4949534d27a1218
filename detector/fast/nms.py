"""NMS in a fixed number of slots, so that the host need not wait to learn how many boxes survive.

How it works: boxes come best first. A block of them is compared with all that were kept before it, what is left of it
with itself, and the scan ends at the count that is wanted (`nms_kernel.py`). Where many are wanted, the whole GPU
compares all pairs before the scan (`nms_mask_kernel.py`). It is one operator of PyTorch, `detector::survivors`: on a
GPU one of these two ways, on a CPU torchvision's NMS, and all three keep the same boxes to the bit.
"""

import logging
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor
from torchvision.ops import nms

from detector.model.proposals import first_survivors

log = logging.getLogger(__name__)

SAMPLE_WANTED = 100  # of `sample_problem`: more than a block keeps, and fewer than all that survive
Way = Callable[[Tensor, Tensor, Tensor | None, float, int], Tensor]  # `survivors`


@torch.library.custom_op("detector::survivors", mutates_args=(), device_types="cpu")
def survivors(boxes: Tensor, valid: Tensor, groups: Tensor | None, threshold: float, count: int) -> Tensor:
    """The first boxes that greedy NMS keeps, of each of N sets.

    Args:
        boxes: [N, B, 4] float32 xyxy, the best first.
        valid: [N, B] bool, which of them there are; the others neither stay nor suppress.
        groups: [N, B] int64; boxes suppress only those of their own group. None: all are of one.
        threshold: IoU above which the worse of two boxes goes.
        count: how many are wanted.

    Returns:
        [N, count] int64: the places of the survivors in ascending order, and −1 after the last.
    """
    return _by_torchvision(boxes, valid, groups, threshold, count)


@survivors.register_kernel("cuda")
def _on_gpu(boxes: Tensor, valid: Tensor, groups: Tensor | None, threshold: float, count: int) -> Tensor:
    if kernel_fault(boxes.device) is not None:
        return _by_torchvision(boxes, valid, groups, threshold, count)
    return _by_kernel(boxes, valid, groups, threshold, count)


@survivors.register_fake
def _shape(boxes: Tensor, valid: Tensor, groups: Tensor | None, threshold: float, count: int) -> Tensor:  # noqa: ARG001
    return boxes.new_empty((boxes.shape[0], count), dtype=torch.int64)


def _by_kernel(boxes: Tensor, valid: Tensor, groups: Tensor | None, threshold: float, count: int) -> Tensor:
    from detector.fast.nms_mask_kernel import mask_pays

    in_blocks, by_mask = ways()
    way = by_mask if mask_pays(valid.shape[0], valid.shape[1], count) else in_blocks
    return way(boxes, valid, groups, threshold, count)


def ways() -> tuple[Way, Way]:
    """The two kernels' `survivors`: in blocks, and by a mask of all pairs."""
    from detector.fast.nms_kernel import scan_blocks  # Triton is there where there is a GPU, and not everywhere else
    from detector.fast.nms_mask_kernel import scan_mask

    return scan_blocks, scan_mask


def _by_torchvision(boxes: Tensor, valid: Tensor, groups: Tensor | None, threshold: float, count: int) -> Tensor:
    """The same picture by picture; on a GPU the host waits several times for each."""
    kept = boxes.new_full((boxes.shape[0], count), -1, dtype=torch.int64)
    for i, row in enumerate(kept):
        places = torch.nonzero(valid[i]).flatten()
        scores = torch.arange(places.shape[0], 0, -1, device=boxes.device, dtype=torch.float32)
        if groups is None:
            best = first_survivors(boxes[i, places], scores, threshold, count)
        else:
            members = [torch.nonzero(groups[i, places] == group).flatten() for group in torch.unique(groups[i, places])]
            of_groups = [m[nms(boxes[i, places[m]], scores[m], threshold)] for m in members]
            best = torch.cat([places.new_empty(0), *of_groups]).sort().values[:count]
        row[: best.shape[0]] = places[best]
    return kept


@cache
def kernel_fault(device: torch.device) -> str | None:
    """Why no kernel is used on this device, or None if they are there and right, each way; logged once a process."""
    fault = None if find_spec("triton") is not None else "Triton is not installed"
    if fault is None:
        try:
            problem = sample_problem(device)
            expected = _by_torchvision(*problem, 0.5, SAMPLE_WANTED)
            right = all(torch.equal(way(*problem, 0.5, SAMPLE_WANTED), expected) for way in ways())
            fault = None if right else "its results are wrong"
        except Exception as error:  # whatever a compiler raises
            fault = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    if fault is not None:
        log.warning("NMS runs through torchvision (%s): detection is slower, but just as exact.", fault)
    return fault


def sample_problem(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes [2, 150, 4] that overlap much, which of them there are, and their groups."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 60, (2, 150, 2), generator=generator).float()
    extents = torch.randint(1, 30, (2, 150, 2), generator=generator).float()
    valid = torch.rand(2, 150, generator=generator) < 0.9
    groups = torch.randint(0, 3, (2, 150), generator=generator)
    return torch.cat((corners, corners + extents), dim=2).to(device), valid.to(device), groups.to(device)
