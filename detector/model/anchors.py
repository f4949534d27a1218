"""Anchors: boxes of several sizes and shapes centred on every cell of a feature map (Faster R-CNN §3.1.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from detector.structures import Features


@dataclass(frozen=True)
class AnchorGrid:
    """The anchors of one feature map. They are numbered, and their boxes are computed only when they are asked for.

    number = (row · columns + column) · A + anchor of the cell.

    Args:
        base: [A, 4] xyxy, one cell's anchors around the origin, in pixels of the input image.
        offset: where the first cell's anchors are centred, in strides from the image's corner.
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
    """Gives every feature map its `AnchorGrid`: on each cell A anchors, one of each size and ratio.

    The anchors of a cell go through the ratios of the first size, then of the next one.

    Args:
        sizes: square roots of the anchors' areas, in pixels of the input image.
        ratios: height / width.
        offset: where the first cell's anchors are centred, in strides from the image's corner.
        rounding: round the base anchors to whole pixels, as py-faster-rcnn and torchvision do.
        levels: 1 gives all sizes to every map; for a pyramid of so many maps, each gets an equal share of the sizes,
            the finest map the first ones (FPN paper §4.1).
        measured_strides: compute the stride of a map from its size, as torchvision does: the size of the padded picture
            (the finest map's, times its stride) over the size of the map, rounded down.
        ratio_first: go through the sizes of the first ratio, then of the next one, as mmdetection does. The order says
            which channel of the RPN belongs to which anchor, and which of two anchors with equal scores comes first.
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
        """A, the number of anchors on a cell."""
        return self.base.shape[0] // self.levels

    def forward(self, features: Features) -> list[AnchorGrid]:
        """The anchors of each feature map, the finest map first."""
        bases = torch.split(self.base, self.per_cell) if self.levels > 1 else (self.base,) * len(features)
        height, width = (cells * features[0].stride for cells in features[0].values.shape[2:])
        grids = []
        for base, (values, stride) in zip(bases, features, strict=True):
            rows, columns = values.shape[2:]
            strides = (height // rows, width // columns) if self.measured_strides else (stride, stride)
            grids.append(AnchorGrid(base, self.offset, strides[0], rows, columns, strides[1]))
        return grids


def base_anchors(sizes: Sequence[float], ratios: Sequence[float], rounding: bool) -> Tensor:
    """One cell's anchors around the origin, all ratios of the first size, then of the next: [A, 4] float32 xyxy.

    They are computed in float64, so that no size is off by a fraction of a pixel.
    """
    size = np.asarray(sizes, dtype=np.float64)[:, None]
    ratio = np.asarray(ratios, dtype=np.float64)[None, :]
    half_width = np.sqrt(size * size / ratio).ravel() / 2
    half_height = half_width * np.broadcast_to(ratio, (size.shape[0], ratio.shape[1])).ravel()
    base = np.stack((-half_width, -half_height, half_width, half_height), axis=1)
    return torch.from_numpy(np.round(base) if rounding else base).float()
