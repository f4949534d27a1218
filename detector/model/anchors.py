"""Anchors: boxes of several sizes and shapes centred on every cell of the feature map (Faster R-CNN §3.1.1)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


class AnchorGenerator(nn.Module):
    """A anchors per cell, A = len(sizes) · len(ratios); anchor a = size index · len(ratios) + ratio index.

    Args:
        sizes: square roots of the anchors' areas, pixels of the input image.
        ratios: height / width.
        stride: pixels of the input image per cell.
        offset: where the first anchor's centre lies, in strides from the image's corner.
        rounding: round the base anchors to whole pixels, as py-faster-rcnn and torchvision do.
    """

    base: Tensor

    def __init__(
        self, sizes: Sequence[float], ratios: Sequence[float], stride: int, offset: float = 0.0, rounding: bool = False
    ) -> None:
        super().__init__()
        self.stride = stride
        self.offset = offset
        self.register_buffer("base", base_anchors(sizes, ratios, rounding), persistent=False)

    @property
    def per_cell(self) -> int:
        """A."""
        return self.base.shape[0]

    def forward(self, height: int, width: int) -> Tensor:
        """All anchors of a feature map.

        Args:
            height, width: of the feature map, in cells.

        Returns:
            [H'·W'·A, 4] float32 xyxy, absolute pixels of the input image, not clipped; row slowest, then column, then
            anchor.
        """
        return self.at(torch.arange(height * width * self.per_cell, device=self.base.device), width)

    def at(self, index: Tensor, width: int) -> Tensor:
        """Some of these anchors.

        Args:
            index: [B] int64 into all anchors of a feature map.
            width: of the feature map, in cells.

        Returns:
            [B, 4], as `forward`.
        """
        cell = index // self.per_cell
        x = (cell % width + self.offset) * self.stride
        y = (cell // width + self.offset) * self.stride
        return torch.stack((x, y, x, y), dim=1) + self.base[index % self.per_cell]


def base_anchors(sizes: Sequence[float], ratios: Sequence[float], rounding: bool) -> Tensor:
    """[A, 4] float32 xyxy around the origin, size-major. Computed in float64: no size is a pixel's fraction off."""
    size = np.asarray(sizes, dtype=np.float64)[:, None]
    ratio = np.asarray(ratios, dtype=np.float64)[None, :]
    half_width = np.sqrt(size * size / ratio).ravel() / 2
    half_height = half_width * np.broadcast_to(ratio, (size.shape[0], ratio.shape[1])).ravel()
    base = np.stack((-half_width, -half_height, half_width, half_height), axis=1)
    return torch.from_numpy(np.round(base) if rounding else base).float()
