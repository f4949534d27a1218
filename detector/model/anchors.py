"""Anchors: boxes of several sizes and shapes centred on every cell of a feature map (Faster R-CNN §3.1.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from detector.structures import Features


@dataclass(frozen=True)
class AnchorGrid:
    """The anchors of one feature map. They are numbered, and made only when they are asked for.

    Row slowest, then column, then anchor of the cell: number = (row · columns + column) · A + anchor.

    Args:
        base: [A, 4] xyxy, one cell's anchors around the origin.
        offset: where the first cell's centre lies, in strides from the image's corner.
        stride: pixels of the input image from one row of cells to the next.
        rows, columns: H' and W' of the feature map.
        column_stride: pixels from one column to the next; None: `stride`.
    """

    base: Tensor
    offset: float
    stride: int
    rows: int
    columns: int
    column_stride: int | None = None

    def __len__(self) -> int:
        """H'·W'·A, the number of anchors."""
        return self.rows * self.columns * self.base.shape[0]

    def all(self) -> Tensor:
        """Every anchor, [H'·W'·A, 4] float32 xyxy, absolute pixels of the input image, not clipped to it."""
        return self.at(torch.arange(len(self), device=self.base.device))

    def at(self, index: Tensor) -> Tensor:
        """The anchors with the numbers `index`, [B] int64, as [B, 4] like `all`."""
        per_cell = self.base.shape[0]
        cell = index // per_cell
        row = cell // self.columns
        column = cell - row * self.columns  # no %: ONNX's exporter lacks it for a number known at run time only
        x = (column + self.offset) * (self.stride if self.column_stride is None else self.column_stride)
        y = (row + self.offset) * self.stride
        return torch.stack((x, y, x, y), dim=1) + self.base[index % per_cell]


class AnchorGenerator(nn.Module):
    """A anchors per cell, A = sizes of a map · len(ratios); anchor a = size index · len(ratios) + ratio index.

    With `ratio_first` it is ratio index · sizes + size index.

    Args:
        sizes: square roots of the anchors' areas, pixels of the input image; of several maps one after the other.
        ratios: height / width.
        offset: where the first anchor's centre lies, in strides from the image's corner.
        rounding: round the base anchors to whole pixels, as py-faster-rcnn and torchvision do.
        levels: of a pyramid, which share out the sizes in order, as many to each (FPN paper §4.1); with 1, every map
            has all of them.
        measured_strides: take the stride of a map from its size, as torchvision does: the padded picture's, which is
            that of the finest map times its stride, over the map's own, rounded down.
        ratio_first: go through the sizes of each ratio, as mmdetection does, in place of the ratios of each size. It
            decides which channel of the RPN is whose, and which anchor comes first among equal scores.
    """

    base: Tensor

    def __init__(
        self,
        sizes: Sequence[float],
        ratios: Sequence[float],
        offset: float = 0.0,
        rounding: bool = False,
        levels: int = 1,
        measured_strides: bool = False,
        ratio_first: bool = False,
    ) -> None:
        super().__init__()
        self.offset = offset
        self.levels = levels
        self.measured_strides = measured_strides
        base = base_anchors(sizes, ratios, rounding)
        if ratio_first:
            base = base.view(levels, -1, len(ratios), 4).transpose(1, 2).reshape(-1, 4)
        self.register_buffer("base", base, persistent=False)

    @property
    def per_cell(self) -> int:
        """A."""
        return self.base.shape[0] // self.levels

    def forward(self, features: Features) -> list[AnchorGrid]:
        """The anchors of each feature map, of the finest first."""
        bases = torch.split(self.base, self.per_cell) if self.levels > 1 else (self.base,) * len(features)
        grids = []
        for base, (values, stride) in zip(bases, features, strict=True):
            rows, columns = values.shape[2:]
            height, width = (cells * features[0].stride for cells in features[0].values.shape[2:])
            strides = (height // rows, width // columns) if self.measured_strides else (stride, stride)
            grids.append(AnchorGrid(base, self.offset, strides[0], rows, columns, strides[1]))
        return grids


def base_anchors(sizes: Sequence[float], ratios: Sequence[float], rounding: bool) -> Tensor:
    """One cell's anchors, [A, 4] float32 xyxy around the origin, size by size.

    Computed in float64, so that no size is off by a fraction of a pixel.
    """
    size = np.asarray(sizes, dtype=np.float64)[:, None]
    ratio = np.asarray(ratios, dtype=np.float64)[None, :]
    half_width = np.sqrt(size * size / ratio).ravel() / 2
    half_height = half_width * np.broadcast_to(ratio, (size.shape[0], ratio.shape[1])).ravel()
    base = np.stack((-half_width, -half_height, half_width, half_height), axis=1)
    return torch.from_numpy(np.round(base) if rounding else base).float()
