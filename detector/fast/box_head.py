"""RoI pooling, fully connected layers and the two sibling layers, fast. The twin of `roi_head.FullyConnectedHead`.

How it works: the regions of all pictures go through the first layer together, whose matrix is larger than they are. Its
columns are put in the order in which pooled maps lie in memory, channels last. Convolutions, where there are any, run
in chunks that stay in the processor's cache. The two sibling layers are one matrix product.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.fast.choose_on_gpu import pools_levels_by_kernel
from detector.fast.convolution import Execution, RoIMaps
from detector.fast.folding import fuse_normed
from detector.fast.roi_head import BaseHead, output_weights
from detector.fast.roi_levels import pool_levels
from detector.model import roi_head as plain
from detector.model.roi_pooling import indexed_rois
from detector.structures import Features


class FullyConnectedHead(BaseHead):
    """RoI pooling, fully connected layers and the two sibling layers, with copies of the parameters.

    Args:
        head: whose parameters are copied.
        execution: type and kernels.
    """

    def __init__(self, head: plain.FullyConnectedHead, execution: Execution) -> None:
        weights = output_weights(head)
        layers = [linear_layer(layer) for layer in head.layers.fcs]
        if layers:
            layers[0] = (channels_last_columns(layers[0][0], head.pooling.size), layers[0][1])
        else:
            weights = [channels_last_columns(weight, head.pooling.size) for weight in weights]
        super().__init__(head, weights, execution)
        self.execution = execution
        device = head.cls_score.weight.device
        self.kernel = pools_levels_by_kernel(head.pooling, device, execution.dtype, False, execution.timed)
        maps = RoIMaps(self.chunk, head.pooling.size)
        self.convs = nn.Sequential(*(fuse_normed(conv, True, execution, maps) for conv in head.layers.convs))
        self.fcs = nn.Sequential(*(LinearReLU(weight, bias, execution.dtype) for weight, bias in layers))

    def vectors(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """What the sibling layers see: [R, C'], float32 or better, the RoIs of the first image first."""
        rois = indexed_rois(boxes)
        if rois.shape[0] == 0:
            return self.weight.new_empty(0, self.channels)
        if self.pooling.kind == "pool":
            pooled = self.pooling(features, boxes)
        else:
            pooled = pool_levels(features, rois, self.pooling, self.kernel)
        maps = self.execution.channels_last(pooled)
        if len(self.convs) > 0:
            maps = torch.cat([self.convs(part) for part in torch.split(maps, self.chunk)])
        vectors: Tensor = self.fcs(maps.permute(0, 2, 3, 1).flatten(1))
        return vectors.to(self.weight.dtype)


class LinearReLU(nn.Module):
    """A fully connected layer and its ReLU.

    By PyTorch's own product: for 1000 rows of the 12544×1024 of an FPN it reaches 86 GFLOP/s on one core of an AMD EPYC
    with AVX2, where oneDNN with packed weights reaches 74 (float32); in bfloat16 it is oneDNN itself.

    Args:
        weight: [O, C]. bias: [O].
        dtype: of the product.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("weight", weight.to(dtype, copy=True).contiguous())
        self.register_buffer("bias", bias.to(dtype, copy=True))

    def forward(self, x: Tensor) -> Tensor:
        """[R, C] to [R, O]."""
        return F.linear(x, self.weight, self.bias).relu_()


def channels_last_columns(weight: Tensor, size: int) -> Tensor:
    """A layer's weight [O, C·S·S] for maps that are flattened cell by cell: [O, S·S·C]."""
    return torch.unflatten(weight, 1, (-1, size * size)).transpose(1, 2).flatten(1)


def linear_layer(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight [O, C] and bias [O] of a fully connected layer, without gradient."""
    assert isinstance(layer, nn.Linear)
    return layer.weight.detach(), layer.bias.detach()
