"""NMS as two kernels of Triton, for many boxes of which many are kept; `detector.fast.nms` says when and for whom.

How it works: whether two boxes overlap does not depend on which are kept. So all multiprocessors compare all pairs
first, by the same arithmetic as `nms_kernel`, and pack what they learn into words of 64 bits, a bit for each box of a
block. Then one program for each picture walks down the blocks as there, but looks up what the other way computes.

Block after block there is a word for every box down to the block's own last, side by side. That of a box before the
block says which boxes of the block overlap it; that of a box of the block, which of the better ones of the block do.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from detector.fast.nms_kernel import exceeds, largest_float32

BLOCK, ROWS = 64, 128  # boxes that share a word, and boxes that one program compares with them
COLUMNS = 4  # of those that share a word, compared at a time
KEPT = 1024  # kept boxes whose words are read at a time

# Where this way is taken changes no result. A second launch and pairs that nobody asks about must be paid for by what
# the other way does on one multiprocessor, which grows with the boxes that are kept.
MOST_BYTES = 64 * 2**20  # that the words of all pictures may take
MANY = 256  # wanted boxes, above which it is taken


def mask_pays(pictures: int, boxes: int, count: int) -> bool:
    """Whether `scan_mask` is the better way for so many pictures, boxes of each, and boxes wanted of each."""
    return count > MANY and 8 * pictures * _words_of(boxes) <= MOST_BYTES


def scan_mask(boxes: Tensor, valid: Tensor, groups: Tensor | None, threshold: float, count: int) -> Tensor:
    """`nms.survivors`, all tensors on a GPU (or, with Triton's interpreter, on the CPU)."""
    pictures, total = valid.shape
    kept = torch.full((pictures, count), -1, dtype=torch.int64, device=boxes.device)
    if kept.numel() == 0 or total == 0:
        return kept
    boxes, valid = boxes.contiguous(), valid.contiguous().view(torch.uint8)
    members = valid if groups is None else groups.contiguous()
    words = torch.empty((pictures, _words_of(total)), dtype=torch.int64, device=boxes.device)
    grid = (triton.cdiv(total, BLOCK), triton.cdiv(total, ROWS), pictures)
    with torch.cuda.device_of(boxes):
        _compare[grid](
            boxes, members, words, total, words.shape[1], largest_float32(threshold), groups is not None,
            BLOCK, ROWS, COLUMNS, num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip
        _scan_words[(pictures,)](words, valid, kept, total, words.shape[1], count, BLOCK, KEPT, num_warps=4)
    return kept


def _words_of(boxes: int) -> int:
    """How many words there are of one picture: 64 for the first block, 128 for the second, …"""
    blocks = -(-boxes // BLOCK)
    return BLOCK * blocks * (blocks + 1) // 2


@triton.jit
def _corners(boxes, at, total):
    """x1, y1, x2 and y2 of the boxes at these places; those past the end have no area."""
    inside = at < total
    x1 = tl.load(boxes + at * 4, mask=inside, other=0.0)
    y1 = tl.load(boxes + at * 4 + 1, mask=inside, other=0.0)
    x2 = tl.load(boxes + at * 4 + 2, mask=inside, other=0.0)
    y2 = tl.load(boxes + at * 4 + 3, mask=inside, other=0.0)
    return x1, y1, x2, y2


@triton.jit
def _compare(
    boxes, groups, words, total, words_of_picture, threshold,
    grouped: tl.constexpr, block: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
):  # fmt: skip
    """The words of `rows` boxes of one picture for one block, where they have some.

    boxes: [N, total, 4]. groups: [N, total], read only where `grouped`. words: [N, words_of_picture] int64.
    """
    number = tl.program_id(0)
    part = tl.program_id(1)
    image = tl.program_id(2).to(tl.int64)
    start = number * block
    if part * rows < start + block:  # boxes after the block have no words in it
        boxes += image * total * 4
        groups += image * total
        words += image * words_of_picture + number.to(tl.int64) * (number + 1) // 2 * block
        row = part * rows + tl.arange(0, rows)
        bx1, by1, bx2, by2 = _corners(boxes, row, total)
        if grouped:
            other = tl.load(groups + row, mask=row < total, other=0)
        packed = tl.zeros((rows,), tl.int64)
        # A few at a time: a division waits long for itself, and only many threads, of few registers, hide that.
        for first in range(0, block, columns):
            lane = first + tl.arange(0, columns)
            at = start + lane
            ax1, ay1, ax2, ay2 = _corners(boxes, at, total)
            over = exceeds(
                ax1[:, None], ay1[:, None], ax2[:, None], ay2[:, None],
                bx1[None, :], by1[None, :], bx2[None, :], by2[None, :], threshold,
            ) & ((row < start)[None, :] | (at[:, None] < row[None, :]))  # fmt: skip
            if grouped:
                group = tl.load(groups + at, mask=at < total, other=0)
                over = over & (group[:, None] == other[None, :])
            packed += tl.sum(tl.where(over, _bits(lane)[:, None], 0), axis=0)
        tl.store(words + row, packed, mask=row < start + block)


@triton.jit
def _scan_words(
    words, valid, kept, total, words_of_picture, count, block: tl.constexpr, chunk: tl.constexpr
):  # fmt: skip
    """One picture's survivors into `kept` [N, count], which holds -1, from the words of `_compare`.

    valid: [N, total] uint8.
    """
    image = tl.program_id(0).to(tl.int64)
    words += image * words_of_picture
    valid += image * total
    kept += image * count
    lane = tl.arange(0, block)
    bits = _bits(lane)
    done = 0
    start = 0
    while (start < total) & (done < count):
        at = start + lane
        better = tl.load(words + at)
        alive = tl.load(valid + at, mask=at < total, other=0) != 0
        over = tl.zeros((chunk,), tl.int64)
        first = 0
        while first < done:
            slot = first + tl.arange(0, chunk)
            filled = slot < done
            place = tl.load(kept + slot, mask=filled, other=0)
            over = over | tl.load(words + place, mask=filled, other=0)
            first += chunk
        alive = alive & (((tl.reduce(over, 0, _either) >> lane) & 1) == 0)
        # Among themselves, as in `nms_kernel`: from all that are alive to those that none of those that stay overlaps.
        stays = tl.sum(tl.where(alive, bits, 0), axis=0)
        now = tl.sum(tl.where(alive & ((better & stays) == 0), bits, 0), axis=0)
        while now != stays:
            stays = now
            now = tl.sum(tl.where(alive & ((better & stays) == 0), bits, 0), axis=0)
        stay = ((stays >> lane) & 1).to(tl.int32)
        slot = done + tl.cumsum(stay, axis=0) - 1
        tl.store(kept + slot, at.to(tl.int64), mask=(stay != 0) & (slot < count))
        tl.debug_barrier()  # what one thread has stored, others read in the next round
        done = tl.minimum(done + tl.sum(stay, axis=0), count)
        start += block
        words += start


@triton.jit
def _bits(lane):
    """One bit for each lane. The 64th is the sign: sums of different bits are right all the same."""
    return tl.full(lane.shape, 1, tl.int64) << lane


@triton.jit
def _either(one, other):
    """The bits that are set in either of two words: how words are reduced to one."""
    return one | other
