"""The feature pyramid: maps of strides 4 to 64, each merged with all coarser ones (FPN paper §3)."""

import torch.nn.functional as F
from torch import Tensor, nn

from detector.model.blocks import NormKind, make_norm
from detector.model.resnet import ResNetC5
from detector.structures import FeatureMap, Features

# The stages whose maps become a level each. One more level, the coarsest, is a subsample of the last of these.
POOLED_STAGES = (2, 3, 4, 5)


class FPN(nn.Module):
    """A ResNet whose maps are merged from the coarsest to the finest.

    From the coarsest stage to the finest, a 1×1 convolution of the stage's map (`lateral`) is added to the merged map
    of the stage before, doubled in size; a 3×3 convolution of the sum (`output`) gives the level. The coarsest level of
    all, the subsample, is for the region proposal network alone.

    Args:
        body: computes the maps of `POOLED_STAGES`.
        body_channels: the number of channels of each of these maps.
        channels: of every level.
        norm: after each convolution, which then has no bias; None for none.
    """

    def __init__(
        self, body: ResNetC5, body_channels: list[int], channels: int = 256, norm: NormKind | None = None
    ) -> None:
        super().__init__()
        self.body = body
        self.lateral = nn.ModuleList(NormedConv(c, channels, 1, norm) for c in body_channels)
        self.output = nn.ModuleList(NormedConv(channels, channels, 3, norm) for _ in body_channels)
        self.out_channels = channels

    def forward(self, pixels: Tensor) -> Features:
        """Network input [N, 3, H, W] to five maps [N, C, ⌈H/stride⌉, ⌈W/stride⌉] of strides 4 to 64."""
        merged = None
        levels: list[FeatureMap] = []
        for (values, stride), lateral, output in zip(
            reversed(self.body(pixels)), reversed(self.lateral), reversed(self.output), strict=True
        ):
            merged = add_doubled(lateral(values), merged)
            levels.append(FeatureMap(output(merged), stride))
        return (*reversed(levels), subsampled(levels[0]))


class NormedConv(nn.Module):
    """A convolution that keeps the size, with a norm or a bias after it, and no ReLU.

    Args:
        in_channels, channels: of input and output.
        kernel_size: 1 or 3.
        norm: which, or None for a bias.
    """

    def __init__(self, in_channels: int, channels: int, kernel_size: int, norm: NormKind | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel_size, padding=kernel_size // 2, bias=norm is None)
        xavier(self.conv)
        self.norm = nn.Identity() if norm is None else make_norm(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H', W'] to [N, channels, H', W']."""
        out: Tensor = self.norm(self.conv(x))
        return out


def xavier(layer: nn.Conv2d | nn.Linear) -> None:
    """Fresh weights, uniform in ±√(3 / inputs), so of variance 1 / inputs: Caffe2's Xavier filling. The bias is 0."""
    nn.init.kaiming_uniform_(layer.weight, a=1)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def add_doubled(values: Tensor, coarser: Tensor | None) -> Tensor:
    """The sum of a map [N, C, H', W'] and the next coarser one, if any, each of whose cells is repeated 2×2 times."""
    if coarser is None:
        return values
    return values + F.interpolate(coarser, size=values.shape[2:], mode="nearest")


def subsampled(level: FeatureMap) -> FeatureMap:
    """Every second row and column of a level: [N, C, H', W'] to [N, C, ⌈H'/2⌉, ⌈W'/2⌉]."""
    return FeatureMap(level.values[:, :, ::2, ::2], 2 * level.stride)
