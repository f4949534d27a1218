"""RoIAlign over the levels of a pyramid in one launch, by the kernels of `roi_align_kernel.py`, forward and backward.

How it works: the levels' cells lie one behind the other in one table, and a program looks up where the level of its RoI
begins, how large it is, and its stride. So every RoI is pooled once, in its level's type, where a launch for each level
pools all of them on all levels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detector.fast.roi_align_kernel import backward_kernel, forward_kernel, launch
from detector.model.roi_pooling import RoIPooling
from detector.structures import moved


def pool_pyramid(
    maps: Sequence[Tensor], strides: Sequence[int], rois: Tensor, levels: Tensor, pooling: RoIPooling
) -> Tensor:
    """RoIAlign of RoIs, each on one level of a pyramid, with gradients for the maps.

    Args:
        maps: [N, C, H_i, W_i] each, all bfloat16 or all float32; best channels-last.
        strides: of the maps.
        rois: [R, 5] float32 of (image index, x1, y1, x2, y2), absolute pixels of the input image.
        levels: [R] int64, the place among the maps of the one that each RoI is pooled from.
        pooling: what kind of RoIAlign.

    Returns:
        [R, C, S, S] channels-last, in the maps' type.
    """
    cells = torch.cat([one.permute(0, 2, 3, 1).reshape(-1, one.shape[1]) for one in maps])
    rows, first = [], 0
    for one, stride in zip(maps, strides, strict=True):
        rows.append([first, one.shape[2], one.shape[3], stride])
        first += one.shape[0] * one.shape[2] * one.shape[3]
    table = _on_device(rows, rois.device)
    pooled: Tensor = _PoolCells.apply(cells, rois.contiguous(), levels.contiguous(), table, pooling)
    return pooled


def _on_device(rows: list[list[int]], device: torch.device) -> Tensor:
    """A table of int64 on a device; the host does not wait."""
    if device.type != "cuda" or not torch.cuda.is_current_stream_capturing():
        return moved(torch.tensor(rows), device)
    # A graph would read the host's memory anew each time, when something else lies there.
    table = torch.empty(len(rows), len(rows[0]), dtype=torch.int64, device=device)
    for to, row in zip(table, rows, strict=True):
        for place, value in zip(to, row, strict=True):
            place.fill_(value)
    return table


class _PoolCells(torch.autograd.Function):
    """`pool_pyramid` of cells [E, C], as autograd wants it. table: [L, 4] of (first cell, rows, columns, stride)."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, rois: Tensor, levels: Tensor, table: Tensor, pooling: RoIPooling) -> Tensor:
        out = torch.empty(
            (rois.shape[0], cells.shape[1], pooling.size, pooling.size),
            dtype=cells.dtype, device=cells.device, memory_format=torch.channels_last,
        )  # fmt: skip
        choices = {"has_bias": False, "relu": False, "pyramid": True}
        launch(forward_kernel, (cells, rois, out, rois, levels, table), (0, 0, 0.0), pooling, 1, **choices)
        ctx.save_for_backward(rois, levels, table)
        ctx.rest = (cells.shape, cells.dtype, pooling)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rois, levels, table = ctx.saved_tensors
        shape, dtype, pooling = ctx.rest
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        of_cells = torch.zeros(shape, dtype=torch.float32, device=gradient.device)
        launch(backward_kernel, (of_cells, rois, gradient, levels, table), (0, 0, 0.0), pooling, 1, pyramid=True)
        return of_cells.to(dtype), None, None, None, None
