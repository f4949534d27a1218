"""RoIAlign, fast: a sparse matrix on a channels-last map. It computes what `detector.model.roi_pooling` does.

How it works: a bin's value is a weighted sum of map cells, and the weight of a cell is the product of one factor for
its row and one for its column: the bin's samples form a grid, and bilinear interpolation is separable (Mask R-CNN §3).
So the factors are computed per axis, [R, bins, cells], and multiplied; most bins of most RoIs need 4 to 9 cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from detector.model.roi_pooling import RoIPooling
from detector.structures import FeatureMap

# RoIs whose weights are computed together: the largest of them decides how much memory each takes.
PART = 64


@dataclass(frozen=True)
class AxisWeights:
    """How much each cell along one axis adds to each bin along it.

    index: [R, S, L] int64, L neighbouring cells for each of S bins. weight: [R, S, L].
    """

    index: Tensor
    weight: Tensor

    def every(self, step: int) -> "AxisWeights":
        """The weights of bins 0, step, 2·step, …"""
        return AxisWeights(self.index[:, ::step], self.weight[:, ::step])


@dataclass(frozen=True)
class BinWeights:
    """The bins of some RoIs over a map of `size` cells. image: [R] int64, the map each RoI lies on."""

    image: Tensor
    rows: AxisWeights
    columns: AxisWeights
    size: tuple[int, int]


def grid_sizes(rois: Tensor, pooling: RoIPooling, stride: int) -> Tensor:
    """Samples per bin, [R, 2] (rows, columns), of [R, 5] RoIs (image index, x1, y1, x2, y2) on a map of that stride."""
    _, extent = _start_and_extent(rois, pooling, stride)
    if pooling.sampling_ratio > 0:
        return torch.full_like(extent, pooling.sampling_ratio)
    return torch.ceil(extent / pooling.size).clamp(min=0)


def bin_weights(rois: Tensor, size: tuple[int, int], stride: int, pooling: RoIPooling) -> BinWeights:
    """Where every bin of every RoI takes its value from.

    Args:
        rois: [R, 5] of (image index, x1, y1, x2, y2), absolute pixels of the input image, float32 or float64. RoIs
            of similar size go well together.
        size: of the feature map, (rows, columns) in cells.
        stride: of the feature map.
        pooling: what kind of RoIAlign.
    """
    start, extent = _start_and_extent(rois, pooling, stride)
    grid = grid_sizes(rois, pooling, stride)
    rows, columns = (_axis(start[:, a], extent[:, a], grid[:, a], size[a], pooling.size) for a in (0, 1))
    return BinWeights(rois[:, 0].long(), rows, columns, size)


def _start_and_extent(rois: Tensor, pooling: RoIPooling, stride: int) -> tuple[Tensor, Tensor]:
    """First edge and length of RoIs, [R, 2] each in the order (y, x), in cells."""
    corners = rois[:, 1:] * (1.0 / stride) - (0.5 if pooling.aligned else 0.0)
    # By flips: a list of columns would be copied to the device in every call, and waited for.
    start = corners[:, :2].flip(1)
    extent = corners[:, 2:].flip(1) - start
    return start, extent if pooling.aligned else extent.clamp(min=1.0)


def _axis(start: Tensor, extent: Tensor, grid: Tensor, cells: int, bins: int) -> AxisWeights:
    """The factors along one axis of `cells` cells. start, extent, grid: [R]."""
    dtype, device = start.dtype, start.device
    most = max(int(grid.max()), 1)
    step = (extent / bins)[:, None, None]
    count = grid.clamp(min=1)[:, None, None]
    bin_index = torch.arange(bins, dtype=dtype, device=device)[:, None]
    sample = torch.arange(most, dtype=dtype, device=device)
    at = start[:, None, None] + bin_index * step + (sample + 0.5) * step / count  # [R, S, most]
    # A sample more than a cell outside of the map counts as zero; one nearer takes the border's value.
    counted = (sample < grid[:, None, None]) & (at >= -1.0) & (at <= cells)
    at = at.clamp(0, cells - 1)
    first = torch.where(counted, at, cells - 1).amin(dim=2).floor()  # [R, S]
    last = torch.where(counted, at, 0).amax(dim=2).ceil()
    length = max(int((last - first).max()) + 1, 1)
    cell = first[..., None] + torch.arange(length, dtype=dtype, device=device)  # [R, S, L]
    # Bilinear interpolation: a cell's share falls from 1 to 0 over the distance of one cell.
    share = (1.0 - (at[..., None, :] - cell[..., None]).abs()).clamp(min=0)  # [R, S, L, most]
    weight = (share * counted[..., None, :]).sum(dim=3) / count
    return AxisWeights(cell.clamp(max=cells - 1).long(), weight)


@dataclass(frozen=True)
class SparseRows:
    """A sparse matrix that turns a table of map cells into one of bins, row by row.

    cell, weight: [E] the entries, int64 row of the table and factor. count: [B] int64, entries of each bin.
    """

    cell: Tensor
    weight: Tensor
    count: Tensor

    def times(self, table: Tensor) -> Tensor:
        """[cells, C] to [B, C]. Its gradient is a sparse product as well."""
        offsets = F.pad(self.count.cumsum(dim=0), (1, 0))
        return F.embedding_bag(
            self.cell, table, offsets, mode="sum", per_sample_weights=self.weight, include_last_offset=True
        )


def sparse_rows(bins: BinWeights, step: int) -> SparseRows:
    """The matrix for bins 0, step, 2·step, … along each axis; RoI slowest, then row, then column."""
    rows, columns = bins.rows.every(step), bins.columns.every(step)
    height, width = bins.size
    # [R, S, 1, L, 1] and [R, 1, S, 1, L'] -> L·L' cells for each of R·S·S bins
    row_start = (bins.image[:, None, None] * height + rows.index) * width
    cell = row_start[:, :, None, :, None] + columns.index[:, None, :, None, :]
    weight = rows.weight[:, :, None, :, None] * columns.weight[:, None, :, None, :]
    used = weight != 0
    return SparseRows(cell[used], weight[used], used.sum(dim=(3, 4)).flatten())


def align(maps: Tensor, bins: Sequence[BinWeights], step: int = 1) -> Tensor:
    """Pool RoIs.

    Args:
        maps: [N, C, H', W'] channels-last, float32 or float64.
        bins: of the RoIs, in one or more parts.
        step: only bins 0, step, 2·step, … along each axis.

    Returns:
        [R, C, S, S] channels-last.
    """
    parts = [sparse_rows(part, step) for part in bins]
    rows = parts[0]
    if len(parts) > 1:
        columns = zip(*((part.cell, part.weight, part.count) for part in parts), strict=True)
        rows = SparseRows(*(torch.cat(column) for column in columns))
    size = bins[0].rows.every(step).index.shape[1]
    pooled = rows.times(maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]))
    return pooled.view(-1, size, size, maps.shape[1]).permute(0, 3, 1, 2)


def order_by_size(rois: Tensor, pooling: RoIPooling, stride: int) -> Tensor:
    """Indices [R] that put RoIs [R, 5] with equally many samples per bin beside each other, on a map of that stride."""
    rows, columns = grid_sizes(rois, pooling, stride).unbind(dim=1)
    return (rows * 4096 + columns).argsort()  # bins have fewer than 4096 samples along an axis


def pool_aligned(
    maps: Sequence[FeatureMap],
    rois: Tensor,
    pooling: RoIPooling,
    steps: Sequence[int],
    kernel: bool = False,
    bias: Tensor | None = None,
) -> list[Tensor]:
    """RoIAlign of the same RoIs on several maps of one size and stride, each at every `step`-th bin along both axes.

    Args:
        maps: [N, C_i, H', W'] each, float32 or float64, channels-last on the CPU; for the kernel channels-last too,
            float32 or bfloat16.
        rois: [R, 5], at least one; in the order of `order_by_size`, if they are many.
        pooling: what kind of RoIAlign.
        steps: one for each map.
        kernel: by `roi_align_kernel`, on a GPU.
        bias: only with the kernel, [C]: added to what is pooled, and a ReLU applied to it.

    Returns:
        [R, C_i, S_i, S_i] each.
    """
    if kernel:
        from detector.fast.roi_align_kernel import pool  # Triton is there where there is a GPU, not everywhere else

        rois = rois.float()
        relu = bias is not None
        return [pool(m.values, rois, pooling, m.stride, step, bias, relu) for m, step in zip(maps, steps, strict=True)]
    if rois.device.type == "cpu":
        values, stride = maps[0]
        size = (values.shape[2], values.shape[3])
        bins = [bin_weights(part, size, stride, pooling) for part in torch.split(rois, PART)]
        return [align(m.values, bins, step) for m, step in zip(maps, steps, strict=True)]
    pooled = [
        roi_align(m.values, rois, pooling.size, 1.0 / m.stride, pooling.sampling_ratio, pooling.aligned) for m in maps
    ]
    return [p[:, :, ::step, ::step] for p, step in zip(pooled, steps, strict=True)]
