"""RoI pooling, conv5_x and the two sibling layers, fast. The twin of `detector.model.roi_head`.

How it works: RoIAlign takes weighted sums over cells, a 1×1 convolution over channels, so the two commute. The two 1×1
convolutions that open conv5_x therefore run before RoIAlign, once on the shared map and not on every RoI
(`HoistedStage`). RoIs of all images, those with equally many samples beside each other, then go through the rest of
conv5_x in chunks that stay in the processor's cache. The two sibling layers are one matrix product.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_pool

from detector.fast.backbone import copy_of_shrinkage, finish_block, fuse_stage
from detector.fast.choose_on_gpu import pooling_way
from detector.fast.convolution import Execution, RoIMaps
from detector.fast.folding import BiasReLU, fuse_conv, linear_part, remaining_part
from detector.fast.roi_align import order_by_size, pool_aligned
from detector.model import roi_head as plain
from detector.model.blocks import Bottleneck, Projection
from detector.model.roi_pooling import RoIPooling, indexed_rois
from detector.structures import FeatureMap, Features

PlainHead = plain.RoIHead | plain.FullyConnectedHead

# RoIs that go through convolutions together: on a CPU few enough for its cache, elsewhere enough to fill the device.
CPU_CHUNK, DEVICE_CHUNK = 50, 1024


class BaseHead(nn.Module):
    """What both heads share: the two sibling layers as one matrix product. The twin of `detector.model`'s.

    The product keeps float32 or better: it is a thousandth of the work, and scores deserve it.

    Args:
        head: whose sibling layers are copied.
        weights: of its sibling layers, from `output_weights`.
        execution: type and kernels.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, head: PlainHead, weights: Sequence[Tensor], execution: Execution) -> None:
        super().__init__()
        self.pooling = head.pooling
        self.chunk = CPU_CHUNK if head.cls_score.weight.device.type == "cpu" else DEVICE_CHUNK
        self.num_logits = head.cls_score.out_features
        self.channels, self.has_context = head.cls_score.in_features, head.has_context
        bias = torch.cat([layer.bias.detach() for layer in (head.cls_score, head.bbox_pred)])
        self.register_buffer("weight", torch.cat(list(weights), dim=1).to(execution.precision))
        self.register_buffer("bias", bias.to(execution.precision))

    def forward(self, features: Features, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Score and refine RoIs.

        Args:
            features: of N images.
            boxes: N tensors [P_i, 4] float32 xyxy, absolute pixels of the input image.

        Returns:
            Class logits [R, K+1] and deltas [R, K, 4], float32, as the plain head.
        """
        return self.predict(self.vectors(features, boxes))

    def predict(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The two sibling layers: vectors [R, C'], with context [R, 2·C'], to logits and deltas, float32."""
        outputs = F.linear(vectors, self.weight, self.bias).float()
        logits, deltas = outputs[:, : self.num_logits], outputs[:, self.num_logits :]
        return logits, torch.unflatten(deltas, 1, (-1, 4))

    def vectors(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """What the sibling layers see: [R, C'], float32 or better, the RoIs of the first image first."""
        raise NotImplementedError


class RoIHead(BaseHead):
    """RoI pooling, conv5_x and the two sibling layers, with copies of the parameters.

    Args:
        head: whose parameters are copied.
        execution: type and kernels.
    """

    def __init__(self, head: plain.RoIHead, execution: Execution) -> None:
        super().__init__(head, output_weights(head), execution)
        conv5_x, average = head.conv5_x[:-1], head.conv5_x[-1]
        assert isinstance(average, plain.AveragePool)
        self.stage: HoistedStage | PooledStage
        device = head.cls_score.weight.device
        way = pooling_way(head.pooling, conv5_x[0], device, execution.dtype, gradient=False, timed=execution.timed)
        stage = HoistedStage if way.hoisted else PooledStage
        self.stage = stage(head.pooling, conv5_x, self.chunk, execution, way.kernel)

    def vectors(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """What the sibling layers see: [R, C'], float32 or better, the RoIs of the first image first."""
        (feature_map,) = features
        rois = indexed_rois(boxes).to(self.weight.dtype)
        vectors = self.weight.new_empty(rois.shape[0], self.channels)
        if rois.shape[0] == 0:
            return vectors
        maps = self.stage.prepare(feature_map)
        if rois.device.type != "cpu":  # a GPU gains nothing from like sizes beside each other
            outs = [self.stage(maps, part) for part in torch.split(rois, self.chunk)]
            averages = [out.permute(0, 2, 3, 1).flatten(1, 2).mean(dim=1, dtype=vectors.dtype) for out in outs]
            return torch.cat(averages)
        for chosen in torch.split(order_by_size(rois, self.pooling, feature_map.stride), self.chunk):
            out: Tensor = self.stage(maps, rois[chosen])
            vectors[chosen] = average_of(out).to(vectors.dtype)
        return vectors


def output_weights(head: PlainHead) -> list[Tensor]:
    """The weights of both sibling layers, one below the other: for regions [K+1 + 4K, C'], then for their context."""
    pairs = [(head.cls_score, head.bbox_pred)]
    if head.context is not None:
        pairs.append((head.context.cls_score, head.context.bbox_pred))
    return [torch.cat([layer.weight.detach() for layer in pair]) for pair in pairs]


def average_of(maps: Tensor) -> Tensor:
    """The mean of square maps over their cells, [R, C, S, S] to [R, C]."""
    return F.avg_pool2d(maps, maps.shape[2]).flatten(1)


class PooledStage(nn.Module):
    """conv5_x on pooled features, as the plain head has it: for RoIPool, basic blocks, and where hoisting is slower.

    A basic block opens with a 3×3 convolution, which does not commute with RoIAlign; its projection does, but is less
    than a fiftieth of the stage.

    Args:
        pooling: RoIs to maps.
        conv5_x: the stage, as it is defined.
        chunk: RoIs that usually come together.
        execution: type and kernels.
        kernel: pool by `roi_align_kernel`, on a GPU.
    """

    def __init__(
        self, pooling: RoIPooling, conv5_x: nn.Sequential, chunk: int, execution: Execution, kernel: bool = False
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.execution = execution
        self.kernel = kernel
        self.layers: nn.Module = fuse_stage(conv5_x, execution, RoIMaps(chunk, pooling.size))

    def prepare(self, features: FeatureMap) -> list[FeatureMap]:
        """The map that is pooled."""
        return [as_pooled(features.values, features.stride, self.pooling, self.execution, self.kernel)]

    def forward(self, maps: list[FeatureMap], rois: Tensor) -> Tensor:
        """conv5_x of some RoIs: what `prepare` gave and [r, 5] to [r, C', S, S] channels-last."""
        if self.pooling.kind == "pool":
            pooled = roi_pool(maps[0].values, rois, self.pooling.size, 1.0 / maps[0].stride)
        else:
            (pooled,) = pool_aligned(maps, rois, self.pooling, [1], self.kernel)
        return self.layers(self.execution.channels_last(pooled))


class HoistedStage(nn.Module):
    """conv5_x with the two 1×1 convolutions that open it run before RoIAlign, once on the shared map.

    A bias does not commute with RoIAlign, since samples beyond the map count as zero, nor does a ReLU: both come after
    pooling. The shortcut's map is pooled only at the bins that its stride keeps; so is the other map where the stride
    is in the first convolution.

    Args:
        pooling, conv5_x, chunk, execution, kernel: as for `PooledStage`.
    """

    def __init__(
        self, pooling: RoIPooling, conv5_x: nn.Sequential, chunk: int, execution: Execution, kernel: bool = False
    ) -> None:
        super().__init__()
        self.kernel = kernel
        first = conv5_x[0]
        assert isinstance(first, Bottleneck)
        assert isinstance(first.shortcut, Projection)
        self.pooling = pooling
        self.execution = execution
        self.steps = [first.conv1.stride[0], first.shortcut.conv.stride[0]]
        self.reduce, reduce_bias = linear_part(first.conv1, first.norm1, execution)
        self.project, project_bias = linear_part(first.shortcut.conv, first.shortcut.norm, execution)
        maps = RoIMaps(chunk, pooling.size)
        layers = LayersAfterHoisting(conv5_x, (reduce_bias, project_bias), maps, execution)
        # The kernel can add this bias and apply the ReLU itself, before it writes what it has pooled.
        self.finish = layers.after_reduce if kernel and isinstance(layers.after_reduce, BiasReLU) else None
        if self.finish is not None:
            layers.after_reduce = nn.Identity()
        self.layers: nn.Module = layers

    def prepare(self, features: FeatureMap) -> list[FeatureMap]:
        """The two maps that are pooled: reduced features and shortcut."""
        values = [self.reduce(features.values), self.project(features.values)]
        return [as_pooled(v, features.stride, self.pooling, self.execution, self.kernel) for v in values]

    def forward(self, maps: list[FeatureMap], rois: Tensor) -> Tensor:
        """conv5_x of RoIs [r, 5]: the two maps of `prepare` to [r, C', S, S] channels-last."""
        if self.finish is None:
            return self.layers(*pool_aligned(maps, rois, self.pooling, self.steps, self.kernel))
        return self.layers(
            *pool_aligned(maps[:1], rois, self.pooling, self.steps[:1], True, self.finish.bias.flatten()),
            *pool_aligned(maps[1:], rois, self.pooling, self.steps[1:], True),
        )


class LayersAfterHoisting(nn.Module):
    """What remains of conv5_x after the convolutions that `HoistedStage` runs before RoIAlign.

    Args:
        conv5_x: the stage, as it is defined.
        biases: what `linear_part` left of the norms of its first convolution and of its first shortcut.
        maps: the pooled maps, before the stage's stride.
        execution: type and kernels.
    """

    def __init__(
        self, conv5_x: nn.Sequential, biases: tuple[Tensor | None, Tensor | None], maps: RoIMaps, execution: Execution
    ) -> None:
        super().__init__()
        first, (reduce_bias, project_bias) = conv5_x[0], biases
        assert isinstance(first, Bottleneck)
        assert isinstance(first.shortcut, Projection)
        reduced = maps.after(first.conv1.stride[0])
        convolved = reduced.after(first.conv2.stride[0])
        self.execution = execution
        self.after_reduce = remaining_part(reduce_bias, first.norm1, True, execution)
        self.conv2 = fuse_conv(first.conv2, first.norm2, True, execution, maps=reduced)
        self.shrink = copy_of_shrinkage(first, execution)
        # The shortcut's bias is added together with that of conv3, to whose result the shortcut is added.
        joins = project_bias is not None and self.shrink is None
        self.after_project: nn.Module = nn.Identity()
        if not joins:
            self.after_project = remaining_part(project_bias, first.shortcut.norm, False, execution)
        extra_bias = project_bias if joins else None
        self.conv3 = fuse_conv(first.conv3, first.norm3, self.shrink is None, execution, extra_bias, convolved)
        self.blocks = fuse_stage(conv5_x[1:], execution, convolved)

    def forward(self, reduced: Tensor, shortcut: Tensor) -> Tensor:
        """The two pooled maps, [r, C, S, S] and [r, C', S', S'], which may be overwritten, to [r, C', S', S']."""
        out = self.conv2(self.execution.channels_last(self.after_reduce(reduced)))
        residual = self.execution.channels_last(self.after_project(shortcut))
        return self.blocks(finish_block(self.conv3, self.shrink, out, residual))


def as_pooled(
    values: Tensor, stride: int, pooling: RoIPooling, execution: Execution, kernel: bool = False
) -> FeatureMap:
    """A map [N, C, H', W'] of this stride, in the type and memory order that its pooling wants."""
    if kernel:
        return FeatureMap(execution.channels_last(values), stride)
    values = values.to(execution.precision)
    if values.device.type != "cpu" or pooling.kind == "pool":
        values = values.contiguous()  # torchvision's kernels would do this again for every chunk
    return FeatureMap(values, stride)
