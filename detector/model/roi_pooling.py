"""Regions of any size to maps of one size: RoIAlign (Mask R-CNN §3) or RoIPool (Fast R-CNN §2.1).

With a pyramid a region is cropped from the level that suits its size (FPN paper §4.2, eq. 1).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align, roi_pool

from detector import boxes as box_ops
from detector.model.half_precision import at_least_float32
from detector.structures import FeatureMap, Features

PoolingKind = Literal["align", "pool"]
LevelRule = Literal["detectron2", "torchvision", "mmdetection"]

# RoIs of √area 224 are the smallest of level 2, which has stride 16; the finest, of stride 4, is level 0.
CANONICAL_SIZE, CANONICAL_LEVEL = 224, 2


class RoIPooling(nn.Module):
    """Crop every RoI from its feature map as C × size × size.

    Args:
        kind: `align` averages bilinear samples, `pool` takes the maximum of whole cells.
        size: edge of the output: 14 before conv5_x, 7 before fully connected layers.
        sampling_ratio: RoIAlign's samples per bin and axis; 0 takes as many as the cells that a bin spans, rounded up.
        aligned: shift RoIs by half a cell, so that their coordinates and the cells' centres agree. Without it, as in
            older versions, RoIs narrower than a cell are widened to one.
        level_rule: how the level of a pyramid is chosen; None where there is one feature map.
    """

    def __init__(
        self,
        kind: PoolingKind,
        size: int,
        sampling_ratio: int = 0,
        aligned: bool = True,
        level_rule: LevelRule | None = None,
    ) -> None:
        super().__init__()
        self.level_rule = level_rule
        self.kind = kind
        self.size = size
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """Pool the RoIs of every image.

        Args:
            features: of N images, C channels: one map, or a pyramid, whose last level is not pooled from.
            boxes: N tensors [P_i, 4] xyxy, absolute pixels of the input image.

        Returns:
            [R, C, size, size] of the features' type, the RoIs of the first image first.
        """
        rois = indexed_rois(boxes)
        if self.level_rule is None:
            (feature_map,) = features
            return self.crop(feature_map, rois)
        levels = roi_levels(rois, len(features) - 1, self.level_rule)
        values = features[0].values
        pooled = values.new_zeros(rois.shape[0], values.shape[1], self.size, self.size)
        for number, feature_map in enumerate(features[:-1]):
            chosen = torch.nonzero(levels == number).flatten()
            pooled[chosen] = self.crop(feature_map, rois[chosen])
        return pooled

    def crop(self, feature_map: FeatureMap, rois: Tensor) -> Tensor:
        """RoIs [R, 5] (`indexed_rois`) of one feature map to [R, C, size, size]."""
        values, stride = feature_map
        maps = at_least_float32(values)
        rois = rois.to(maps.dtype)
        scale = 1.0 / stride
        if self.kind == "pool":
            pooled = roi_pool(maps, rois, self.size, scale)
        else:
            pooled = roi_align(maps, rois, self.size, scale, sampling_ratio=self.sampling_ratio, aligned=self.aligned)
        return pooled.to(values.dtype)


def roi_levels(rois: Tensor, count: int, rule: LevelRule) -> Tensor:
    """Which level of a pyramid each RoI is cropped from: [R, 5] to [R] int64 in 0 … count − 1, 0 the finest.

    It is ⌊k₀ + log2(√area / 224)⌋ (FPN paper, eq. 1; there k₀ = 4 for the level of stride 16, and levels begin with 2),
    clamped to the levels there are. The lineages add a small number against log2(0) and rounding errors, each at
    another place, which decides about RoIs on the edge between two levels.

    Args:
        rois: (image index, x1, y1, x2, y2), absolute pixels of the input image.
        count: how many levels there are, of strides 4, 8, …
        rule: the lineage.
    """
    size = torch.sqrt(box_ops.area(rois[:, 1:]))
    if rule == "mmdetection":
        finest = CANONICAL_SIZE / 2**CANONICAL_LEVEL
        level = torch.floor(torch.log2(size / finest + 1e-6))
    elif rule == "torchvision":
        level = torch.floor(CANONICAL_LEVEL + 2 + torch.log2(size / CANONICAL_SIZE) + 1e-6) - 2
    else:
        level = torch.floor(CANONICAL_LEVEL + 2 + torch.log2(size / CANONICAL_SIZE + 1e-8)) - 2
    return level.clamp(0, count - 1).long()


def indexed_rois(boxes: Sequence[Tensor]) -> Tensor:
    """N tensors [P_i, 4] to one [R, 5] of (image index, x1, y1, x2, y2)."""
    rows = [torch.cat((b.new_full((b.shape[0], 1), float(i)), b), dim=1) for i, b in enumerate(boxes)]
    return torch.cat(rows)
