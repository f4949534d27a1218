"""The heads that train, fast. Twins of those in `detector.model.roi_head`, on the same parameters, with gradient.

How it works: as in `roi_head.py`, which says why, the 1×1 convolutions that open conv5_x run before RoIAlign: on a CPU,
and on a GPU that is faster that way (`choose_on_gpu.py`).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.fast.choose_on_gpu import pooling_way, pools_levels_by_kernel
from detector.fast.fold_together import Folds
from detector.fast.fused_gradient import run_rest
from detector.fast.roi_align import order_by_size, pool_aligned
from detector.fast.roi_levels import pool_levels
from detector.fast.training_blocks import conv_norm, finish, linear, run_block, run_normed
from detector.model import roi_head
from detector.model.blocks import Bottleneck, Projection
from detector.model.half_precision import at_least_float32
from detector.model.roi_pooling import indexed_rois
from detector.structures import FeatureMap, Features


class BaseHead(nn.Module):
    """What all heads share: the sibling layers are the plain head's."""

    plain: roi_head.BaseHead

    def forward(self, features: Features, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Class logits [R, K+1] and deltas [R, K, 4] of N tensors of RoIs [P_i, 4], pixels of the input image."""
        return self.predict(self.vectors(features, boxes))

    @property
    def has_context(self) -> bool:
        """Whether the plain head has global context."""
        return self.plain.has_context

    def predict(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The two sibling layers, as the plain head's."""
        return self.plain.predict(vectors)

    def vectors(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """What the sibling layers see of every RoI: [R, C']; features and boxes as for `forward`."""
        raise NotImplementedError


class FullyConnectedHead(BaseHead):
    """RoI pooling, fully connected layers and the two sibling layers. head: whose parameters are trained."""

    plain: roi_head.FullyConnectedHead

    def __init__(self, head: roi_head.FullyConnectedHead) -> None:
        super().__init__()
        self.plain = head

    def vectors(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """What the sibling layers see of every RoI: [R, C']; features and boxes as for `forward`."""
        rois, layers = indexed_rois(boxes), self.plain.layers
        if self.plain.pooling.kind == "pool" or rois.shape[0] == 0:
            return self.plain.vectors(features, boxes)
        pooling, dtype = self.plain.pooling, features[0].values.dtype
        kernel = pools_levels_by_kernel(pooling, rois.device, dtype, gradient=torch.is_grad_enabled())
        maps = pool_levels(features, rois, pooling, kernel).to(dtype)
        for conv in layers.convs:
            maps = F.relu_(run_normed(conv, maps))
        vectors = maps.flatten(1)
        for layer in layers.fcs:
            vectors = F.relu_(layer(vectors))
        return vectors


class RoIHead(BaseHead):
    """RoI pooling, conv5_x and the two sibling layers.

    Args:
        head: whose parameters are trained.
        folds: as for `training.ResNetC4`.
    """

    plain: roi_head.RoIHead

    def __init__(self, head: roi_head.RoIHead, folds: Folds | None = None) -> None:
        super().__init__()
        self.plain = head
        self.folds = folds

    def vectors(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """What the sibling layers see of every RoI: [R, C']; features and boxes as for `forward`."""
        pooling = self.plain.pooling
        (feature_map,) = features
        rois = indexed_rois(boxes)
        if pooling.kind == "pool" or rois.shape[0] == 0:
            return self.plain.vectors(features, boxes)
        order: Tensor | None = None
        if rois.device.type == "cpu":  # where RoIs of like size take less memory and time together
            order = order_by_size(rois, pooling, feature_map.stride)
            rois = rois[order]
        first, *others, average = self.plain.conv5_x
        x = self._first_block(first, feature_map, rois)
        for block in others:
            x = run_block(block, x, self.folds)
        vectors: Tensor = average(x)
        return vectors if order is None else vectors[order.argsort()]

    def _first_block(self, block: nn.Module, features: FeatureMap, rois: Tensor) -> Tensor:
        """RoIAlign of RoIs [R, 5] and the first block of conv5_x, [R, C', S', S']: in the order that is faster here."""
        pooling, values = self.plain.pooling, features.values
        way = pooling_way(pooling, block, rois.device, values.dtype, gradient=torch.is_grad_enabled())
        if way.hoisted:
            assert isinstance(block, Bottleneck)
            return self._hoisted(block, features, rois, way.kernel)
        maps = FeatureMap(values if way.kernel else at_least_float32(values), features.stride)
        rois = rois.to(torch.promote_types(maps.values.dtype, torch.float32))
        (pooled,) = pool_aligned([maps], rois, pooling, [1], way.kernel)
        return run_block(block, pooled.to(values.dtype), self.folds)

    def _hoisted(self, block: Bottleneck, features: FeatureMap, rois: Tensor, kernel: bool) -> Tensor:
        """`_first_block` with the block's first convolution and its shortcut before RoIAlign."""
        assert isinstance(block.shortcut, Projection)
        opening = [(block.conv1, block.norm1), (block.shortcut.conv, block.shortcut.norm)]
        folded = [None if self.folds is None else self.folds.take(conv) for conv, _ in opening]
        maps = [linear(*pair, features.values, fold) for pair, fold in zip(opening, folded, strict=True)]
        maps = maps if kernel else [at_least_float32(m) for m in maps]
        steps = [conv.stride[0] for conv, _ in opening]
        rois = rois.to(torch.promote_types(maps[0].dtype, torch.float32))
        pooled_maps = [FeatureMap(m, features.stride) for m in maps]
        reduce, project = folded
        if kernel and reduce is not None and project is not None and self.folds is not None:
            # The kernel adds the offset and applies the ReLU before it writes what it has pooled.
            pooling = self.plain.pooling
            (reduced,) = pool_aligned(pooled_maps[:1], rois, pooling, steps[:1], kernel, reduce.offset)
            (shortcut,) = pool_aligned(pooled_maps[1:], rois, pooling, steps[1:], kernel)
            fused = run_rest(block, reduced, shortcut, project, self.folds)
            if fused is not None:
                return fused
            shortcut = shortcut + project.bias.view(-1, 1, 1)
        else:
            pooled = pool_aligned(pooled_maps, rois, self.plain.pooling, steps, kernel)
            reduced = finish(block.norm1, pooled[0], reduce, relu=True)
            shortcut = finish(block.shortcut.norm, pooled[1], project)
        out = conv_norm(block.conv2, block.norm2, reduced, self.folds, relu=True)
        out = block.shrink(conv_norm(block.conv3, block.norm3, out, self.folds))
        out += shortcut
        return F.relu_(out)
