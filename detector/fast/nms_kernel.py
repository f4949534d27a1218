"""NMS as one kernel of Triton, one program for each picture; `detector.fast.nms` says what it computes and for whom.

How it works: it walks down the boxes in blocks of 64, the best first. A block is compared with all boxes that were kept
before it, then with itself, and the walk ends at the count wanted. Pairs that nobody asks about are never compared, but
one multiprocessor compares all others; where these are many, `nms_mask_kernel` shares them out among all.

It is written for exactness first: divisions and sums round as torchvision's on the CPU do, nothing is contracted.
"""

import math

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK, KEPT = 64, 128  # boxes that are looked at together, and of those kept that they are compared with at a time


def scan_blocks(boxes: Tensor, valid: Tensor, groups: Tensor | None, threshold: float, count: int) -> Tensor:
    """`nms.survivors`, all tensors on a GPU (or, with Triton's interpreter, on the CPU)."""
    kept = torch.full((boxes.shape[0], count), -1, dtype=torch.int64, device=boxes.device)
    if kept.numel() == 0 or boxes.shape[1] == 0:
        return kept
    boxes, valid = boxes.contiguous(), valid.contiguous().view(torch.uint8)
    members = valid if groups is None else groups.contiguous()
    with torch.cuda.device_of(boxes):
        _scan[(boxes.shape[0],)](
            boxes, valid, members, kept, boxes.shape[1], count, largest_float32(threshold), groups is not None,
            BLOCK, KEPT, num_warps=8, enable_fp_fusion=False,
        )  # fmt: skip
    return kept


def largest_float32(threshold: float) -> float:
    """The largest float32 that is not above `threshold`, so that the same IoUs exceed both."""
    rounded = np.float32(threshold)
    return float(rounded if float(rounded) <= threshold else np.nextafter(rounded, np.float32(-math.inf)))


@triton.jit
def exceeds(ax1, ay1, ax2, ay2, bx1, by1, bx2, by2, threshold):
    """Whether boxes [A, 1] and [1, B] have an IoU above the threshold. Two without area have none.

    The order of the two changes no bit. Its callers compile it with `enable_fp_fusion=False`.
    """
    width = tl.maximum(tl.minimum(ax2, bx2) - tl.maximum(ax1, bx1), 0.0)
    height = tl.maximum(tl.minimum(ay2, by2) - tl.maximum(ay1, by1), 0.0)
    intersection = width * height
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - intersection
    return (intersection > 0) & (tl.div_rn(intersection, tl.where(union != 0, union, 1.0)) > threshold)


@triton.jit
def _scan(
    boxes, valid, groups, kept, total, count, threshold,
    grouped: tl.constexpr, block: tl.constexpr, chunk: tl.constexpr,
):  # fmt: skip
    """One picture's survivors into `kept` [N, count], which holds -1.

    boxes: [N, total, 4]. valid: [N, total] uint8. groups: [N, total], read only where `grouped`.
    """
    image = tl.program_id(0).to(tl.int64)
    boxes += image * total * 4
    valid += image * total
    groups += image * total
    kept += image * count
    lane = tl.arange(0, block)
    before = lane[:, None] < lane[None, :]
    done = 0
    start = 0
    while (start < total) & (done < count):
        at = start + lane
        inside = at < total
        x1 = tl.load(boxes + at * 4, mask=inside, other=0.0)
        y1 = tl.load(boxes + at * 4 + 1, mask=inside, other=0.0)
        x2 = tl.load(boxes + at * 4 + 2, mask=inside, other=0.0)
        y2 = tl.load(boxes + at * 4 + 3, mask=inside, other=0.0)
        group = tl.load(groups + at, mask=inside, other=0)
        alive = tl.load(valid + at, mask=inside, other=0) != 0
        first = 0
        while first < done:
            slot = first + tl.arange(0, chunk)
            filled = slot < done
            place = tl.load(kept + slot, mask=filled, other=0)
            over = exceeds(
                tl.load(boxes + place * 4)[:, None], tl.load(boxes + place * 4 + 1)[:, None],
                tl.load(boxes + place * 4 + 2)[:, None], tl.load(boxes + place * 4 + 3)[:, None],
                x1[None, :], y1[None, :], x2[None, :], y2[None, :], threshold,
            ) & filled[:, None]  # fmt: skip
            if grouped:
                over = over & (tl.load(groups + place)[:, None] == group[None, :])
            alive = alive & (tl.max(over.to(tl.int32), axis=0) == 0)
            first += chunk
        # Among themselves: those stay that none of the better ones that stay overlaps. From all that are alive, what
        # is true of ever more of them is found, and in at most `block` rounds nothing changes any more.
        over = before & exceeds(
            x1[:, None], y1[:, None], x2[:, None], y2[:, None],
            x1[None, :], y1[None, :], x2[None, :], y2[None, :], threshold,
        )  # fmt: skip
        if grouped:
            over = over & (group[:, None] == group[None, :])
        stays = alive
        changed = 1
        while changed > 0:
            hit = tl.max((over & stays[:, None]).to(tl.int32), axis=0)
            now = alive & (hit == 0)
            changed = tl.sum((now != stays).to(tl.int32), axis=0)
            stays = now
        slot = done + tl.cumsum(stays.to(tl.int32), axis=0) - 1
        tl.store(kept + slot, at.to(tl.int64), mask=stays & (slot < count))
        tl.debug_barrier()  # what one thread has stored, others read in the next round
        done = tl.minimum(done + tl.sum(stays.to(tl.int32), axis=0), count)
        start += block
