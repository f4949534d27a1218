"""Regions of any size to maps of one size: RoIAlign (Mask R-CNN §3) or RoIPool (Fast R-CNN §2.1)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align, roi_pool

from detector.model.half_precision import at_least_float32
from detector.structures import Features

PoolingKind = Literal["align", "pool"]


class RoIPooling(nn.Module):
    """Crop every RoI from the feature map as C × size × size.

    Args:
        kind: `align` averages bilinear samples, `pool` takes the maximum of whole cells.
        size: edge of the output, 14 before conv5_x.
        sampling_ratio: samples per bin and axis of RoIAlign; 0 takes one per feature cell that the bin spans.
        aligned: shift by half a cell, so that RoIs and cell centres agree; without it small RoIs are widened to a cell.
    """

    def __init__(self, kind: PoolingKind, size: int, sampling_ratio: int = 0, aligned: bool = True) -> None:
        super().__init__()
        self.kind = kind
        self.size = size
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """Pool the RoIs of every image.

        Args:
            features: one map of N images, C channels.
            boxes: N tensors [P_i, 4] xyxy, absolute pixels of the input image.

        Returns:
            [R, C, size, size] of the features' type, the RoIs of the first image first.
        """
        ((values, stride),) = features
        maps = at_least_float32(values)
        rois = indexed_rois(boxes).to(maps.dtype)
        scale = 1.0 / stride
        if self.kind == "pool":
            pooled = roi_pool(maps, rois, self.size, scale)
        else:
            pooled = roi_align(maps, rois, self.size, scale, sampling_ratio=self.sampling_ratio, aligned=self.aligned)
        return pooled.to(values.dtype)


def indexed_rois(boxes: Sequence[Tensor]) -> Tensor:
    """N tensors [P_i, 4] to one [R, 5] of (image index, x1, y1, x2, y2)."""
    rows = [torch.cat((b.new_full((b.shape[0], 1), float(i)), b), dim=1) for i, b in enumerate(boxes)]
    return torch.cat(rows)
