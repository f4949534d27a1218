"""RoIAlign over the levels of a pyramid: what `detector.model.roi_pooling` does, for the regions of a batch at once.

How it works: on a CPU the regions of one level go together, whatever picture they are of, those with equally many
samples beside each other (`roi_align.py`). Elsewhere every level pools all regions, those of other levels as empty
ones, which cost next to nothing; so the host never has to wait to learn how many there are of each. Where it is faster
(`choose_on_gpu.py`), one launch of our kernel pools each from its own level.
"""

import torch
from torch import Tensor

from detector.fast.roi_align import order_by_size, pool_aligned
from detector.model.half_precision import at_least_float32
from detector.model.roi_pooling import RoIPooling, roi_levels
from detector.structures import FeatureMap, Features

# RoIs of a level that are pooled together where there is no gradient: what they give is copied to its place, so more
# would only take more memory.
TOGETHER = 256


def pool_levels(features: Features, rois: Tensor, pooling: RoIPooling, kernel: bool = False) -> Tensor:
    """Pool RoIs by RoIAlign, each from the level that suits its size, or all from the one map that there is.

    Args:
        features: of N images; on the CPU channels-last.
        rois: [R, 5] of (image index, x1, y1, x2, y2), absolute pixels of the input image; at least one.
        pooling: what kind of RoIAlign.
        kernel: by `roi_align_pyramid`, on a GPU.

    Returns:
        [R, C, S, S] channels-last, float32 or better, in the order of the RoIs; with gradient to the maps. Of the
        kernel: in the maps' type.
    """
    if pooling.level_rule is not None:
        features = features[:-1]  # the coarsest is for the region proposal network alone
    if kernel:
        # Triton is there where there is a GPU, not everywhere else.
        from detector.fast.roi_align_pyramid import pool_pyramid

        rois = rois.float()
        values, strides = zip(*features, strict=True)
        return pool_pyramid(values, strides, rois, _levels(rois, len(features), pooling), pooling)
    maps = [FeatureMap(at_least_float32(values), stride) for values, stride in features]
    rois = rois.to(maps[0].values.dtype)
    levels = _levels(rois, len(maps), pooling)
    if rois.device.type != "cpu":
        return _masked(maps, rois, levels, pooling)
    pooled = rois.new_empty(rois.shape[0], pooling.size, pooling.size, maps[0].values.shape[1])
    for number, feature_map in enumerate(maps):
        chosen = torch.nonzero(levels == number).flatten()
        if chosen.shape[0] == 0:
            continue
        chosen = chosen[order_by_size(rois[chosen], pooling, feature_map.stride)]
        # Backwards every copy into place costs a copy of the whole.
        step = chosen.shape[0] if feature_map.values.requires_grad else TOGETHER
        for places in torch.split(chosen, step):
            (part,) = pool_aligned([feature_map], rois[places], pooling, [1])
            pooled[places] = part.permute(0, 2, 3, 1)
            del part
    return pooled.permute(0, 3, 1, 2)


def _levels(rois: Tensor, count: int, pooling: RoIPooling) -> Tensor:
    """[R] int64, the place of each RoI's map among `count`."""
    if pooling.level_rule is None:
        return torch.zeros_like(rois[:, 0], dtype=torch.int64)
    return roi_levels(rois, count, pooling.level_rule)


def _masked(maps: list[FeatureMap], rois: Tensor, levels: Tensor, pooling: RoIPooling) -> Tensor:
    """`pool_levels` without a wait for the device: every level pools all RoIs, those of other levels as empty ones."""
    empty = torch.cat((rois[:, :1], torch.zeros_like(rois[:, 1:])), dim=1)
    pooled = None
    for number, feature_map in enumerate(maps):
        here = levels == number
        contiguous = FeatureMap(feature_map.values.contiguous(), feature_map.stride)  # as torchvision's kernel wants it
        (part,) = pool_aligned([contiguous], rois.where(here[:, None], empty), pooling, [1])
        part = part.where(here[:, None, None, None], 0.0)
        pooled = part if pooled is None else pooled + part
    assert pooled is not None
    return pooled.contiguous(memory_format=torch.channels_last)
