"""RoI pooling, conv5_x and the two predictors, over chunks of RoIs that stay in cache."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_pool

from detector.fast.backbone import fuse_stage
from detector.fast.convolution import Execution, RoIMaps
from detector.fast.folding import fold_norm, fuse_conv, is_foldable, linear_part, remaining_part
from detector.fast.roi_align import order_by_size, pool_aligned
from detector.model.resnet import Bottleneck, Projection
from detector.model.roi_head import RoIHead
from detector.model.roi_pooling import RoIPooling, indexed_rois


class FusedRoIHead(nn.Module):
    """Features and boxes to class logits and deltas.

    Args:
        pooling: how RoIs are pooled.
        head: conv5_x and predictors.
        chunk: RoIs at a time.
        execution: type and kernels.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, pooling: RoIPooling, head: RoIHead, chunk: int, execution: Execution) -> None:
        super().__init__()
        self.pooling = pooling
        self.chunk = chunk
        self.channels = head.cls_score.in_features
        self.num_logits = head.cls_score.out_features
        assert isinstance(head.conv5_x, nn.Sequential)
        self.stage: HoistedStage | PooledStage
        if pooling.kind == "align" and isinstance(head.conv5_x[0], Bottleneck):
            self.stage = HoistedStage(pooling, head.conv5_x, chunk, execution)
        else:
            self.stage = PooledStage(pooling, head.conv5_x, chunk, execution)
        # The predictors keep float32 or better: they are a thousandth of the work, and scores deserve it.
        layers = (head.cls_score, head.bbox_pred)
        self.register_buffer("weight", torch.cat([layer.weight.detach() for layer in layers]).to(execution.precision))
        self.register_buffer("bias", torch.cat([layer.bias.detach() for layer in layers]).to(execution.precision))

    def forward(self, features: Tensor, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Score and refine RoIs.

        Args:
            features: [N, C, H', W'] channels-last.
            boxes: N tensors [P_i, 4] float32 xyxy, absolute pixels of the input image.

        Returns:
            Class logits [R, K+1] and deltas [R, K, 4], float32, as `RoIHead.forward`.
        """
        outputs = F.linear(self.vectors(features, boxes), self.weight, self.bias).float()
        logits, deltas = outputs[:, : self.num_logits], outputs[:, self.num_logits :]
        return logits, torch.unflatten(deltas, 1, (-1, 4))

    def vectors(self, features: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """What the predictors see: [R, C'], float32 or better, the RoIs of the first image first."""
        rois = indexed_rois(boxes).to(self.weight.dtype)
        vectors = self.weight.new_empty(rois.shape[0], self.channels)
        if rois.shape[0] == 0:
            return vectors
        maps = self.stage.prepare(features)
        for chosen in torch.split(order_by_size(rois, self.pooling), self.chunk):
            out: Tensor = self.stage(maps, rois[chosen])
            vectors[chosen] = F.avg_pool2d(out, out.shape[2]).flatten(1).to(vectors.dtype)
        return vectors


class PooledStage(nn.Module):
    """conv5_x on pooled features, as the readable path has it: for RoIPool, and for basic blocks.

    (A basic block opens with a 3×3 convolution, which does not commute with RoIAlign; its projection does, but is
    less than a fiftieth of the stage.)
    """

    def __init__(self, pooling: RoIPooling, conv5_x: nn.Sequential, chunk: int, execution: Execution) -> None:
        super().__init__()
        self.pooling = pooling
        self.execution = execution
        self.layers: nn.Module = fuse_stage(conv5_x, execution, RoIMaps(chunk, pooling.size))

    def prepare(self, features: Tensor) -> Tensor:
        """The map that is pooled."""
        return as_pooled(features, self.pooling, self.execution)

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """conv5_x of some RoIs: what `prepare` gave and [r, 5] to [r, C', S, S] channels-last."""
        if self.pooling.kind == "pool":
            pooled = roi_pool(features, rois, self.pooling.size, 1.0 / self.pooling.stride)
        else:
            (pooled,) = pool_aligned([features], rois, self.pooling, [1])
        return self.layers(self.execution.channels_last(pooled))


class HoistedStage(nn.Module):
    """conv5_x with the two 1×1 convolutions that open it run before RoIAlign, once on the shared map.

    RoIAlign takes weighted sums over cells, a 1×1 convolution over channels: the two commute. Not so a bias, since
    samples beyond the map count as zero, nor a ReLU: both come after pooling. The shortcut is pooled only at the bins
    that its stride keeps, and so is the other where the stride sits in the first convolution.
    """

    def __init__(self, pooling: RoIPooling, conv5_x: nn.Sequential, chunk: int, execution: Execution) -> None:
        super().__init__()
        first = conv5_x[0]
        assert isinstance(first, Bottleneck)
        assert isinstance(first.shortcut, Projection)
        self.pooling = pooling
        self.execution = execution
        self.steps = [first.conv1.stride[0], first.shortcut.conv.stride[0]]
        self.reduce = linear_part(first.conv1, first.norm1, execution)
        self.project = linear_part(first.shortcut.conv, first.shortcut.norm, execution)
        maps = RoIMaps(chunk, pooling.size)
        self.layers: nn.Module = LayersAfterHoisting(first, first.shortcut, conv5_x[1:], maps, execution)

    def prepare(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The two maps that are pooled: reduced features and shortcut."""
        reduced, shortcut = self.reduce(features), self.project(features)
        return (
            as_pooled(reduced, self.pooling, self.execution),
            as_pooled(shortcut, self.pooling, self.execution),
        )

    def forward(self, maps: tuple[Tensor, Tensor], rois: Tensor) -> Tensor:
        """As `PooledStage.forward`."""
        reduced, shortcut = pool_aligned(maps, rois, self.pooling, self.steps)
        return self.layers(reduced, shortcut)


class LayersAfterHoisting(nn.Module):
    """What remains of conv5_x.

    Args:
        first, shortcut: the block that opens the stage, and its projection.
        others: the blocks after it.
        maps: pooled ones, before the stage's stride.
        execution: type and kernels.
    """

    def __init__(
        self, first: Bottleneck, shortcut: Projection, others: nn.Sequential, maps: RoIMaps, execution: Execution
    ) -> None:
        super().__init__()
        reduced = maps.after(first.conv1.stride[0])
        convolved = reduced.after(first.conv2.stride[0])
        self.execution = execution
        self.after_reduce = remaining_part(first.conv1, first.norm1, True, execution)
        self.conv2 = fuse_conv(first.conv2, first.norm2, True, execution, maps=reduced)
        bias = None
        self.after_project: nn.Module = nn.Identity()
        if is_foldable(shortcut.norm):
            # The shortcut's bias may as well be added with that of the convolution that it joins.
            _, bias = fold_norm(shortcut.conv, shortcut.norm)
        else:
            self.after_project = remaining_part(shortcut.conv, shortcut.norm, False, execution)
        self.conv3 = fuse_conv(first.conv3, first.norm3, True, execution, bias, convolved)
        self.blocks = fuse_stage(others, execution, convolved)

    def forward(self, reduced: Tensor, shortcut: Tensor) -> Tensor:
        """The two pooled maps, [r, C, S, S] and [r, C', S', S'], which may be overwritten, to [r, C', S', S']."""
        out = self.conv2(self.execution.channels_last(self.after_reduce(reduced)))
        return self.blocks(self.conv3(out, self.execution.channels_last(self.after_project(shortcut))))


def as_pooled(features: Tensor, pooling: RoIPooling, execution: Execution) -> Tensor:
    """A map in the type and the memory order in which its pooling wants it."""
    features = features.to(execution.precision)
    if features.device.type == "cpu" and pooling.kind == "align":
        return features
    return features.contiguous()  # torchvision's kernels would do this again for every chunk
