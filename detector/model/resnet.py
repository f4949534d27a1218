"""ResNet-18/34/50/101/152 and ResNeXt as conv1, conv2_x … conv5_x (ResNet paper, table 1; ResNeXt paper, table 1).

In a C4 detector conv1 … conv4_x is the backbone, shared by the region proposal network and RoI pooling; conv5_x runs on
every RoI (ResNet paper, appendix A), at half of its pooled size. In others all five stages are the backbone. The shape
of a stage: C channels at 1/2 (conv1), 1/4, 1/8, 1/16, 1/32.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.model.shrinkage import Shrinkage, ShrinkageKind
from detector.structures import FeatureMap, Features

NormKind = Literal["frozen_batch", "batch", "group"]

BLOCKS_PER_STAGE = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
BASIC_BLOCK_DEPTHS = (18, 34)
NORM_EPS = 1e-5
GROUPS = 32  # GroupNorm paper, §4.1
SHRINKAGE_REDUCTION = 4  # of the channels of a block's 3×3 convolution; `shrinkage.py` says whose


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation with fixed statistics and a fixed affine map: y = (x − mean) / √(var + ε) · weight + bias.

    All four are buffers: an ImageNet-trained network is fine-tuned with them as constants, because detection batches
    are too small to estimate them again (ResNet paper, appendix A). Fresh, it is the identity.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = NORM_EPS) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels) - eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [N, C, H, W], channel by channel."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def make_norm(kind: NormKind, channels: int, eps: float = NORM_EPS) -> nn.Module:
    """The normalisation layer after a convolution of `channels` outputs."""
    if kind == "frozen_batch":
        return FrozenBatchNorm2d(channels, eps)
    if kind == "batch":
        return nn.BatchNorm2d(channels, eps=eps)
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels, eps=eps)


def make_conv(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A convolution without bias (the norm after it has one), padded to keep the size at stride 1, He-initialised."""
    padding = dilation * (kernel_size // 2)
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


class Projection(nn.Module):
    """Shortcut where the width or the stride changes: a 1×1 convolution and its norm (ResNet paper §3.3, option B)."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, norm: NormKind, norm_eps: float = NORM_EPS
    ) -> None:
        super().__init__()
        self.conv = make_conv(in_channels, out_channels, 1, stride)
        self.norm = make_norm(norm, out_channels, norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Project [N, C, H, W] to [N, C', H/stride, W/stride], rounded up."""
        return self.norm(self.conv(x))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut, for ResNet-18 and 34 (ResNet paper, figure 5 left)."""

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        norm: NormKind,
        norm_eps: float = NORM_EPS,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.conv1 = make_conv(in_channels, width, 3, stride, dilation)
        self.norm1 = make_norm(norm, width, norm_eps)
        self.conv2 = make_conv(width, width, 3, dilation=dilation)
        self.norm2 = make_norm(norm, width, norm_eps)
        self.shrink: nn.Module = nn.Identity()  # a Shrinkage, where the network has them
        self.shortcut = make_shortcut(in_channels, width, stride, norm, norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H/stride, W/stride], rounded up."""
        out = F.relu(self.norm1(self.conv1(x)))
        out = self.shrink(self.norm2(self.conv2(out)))
        return F.relu(out + self.shortcut(x))


class Bottleneck(nn.Module):
    """1×1 reduce, 3×3, 1×1 expand and a shortcut, for ResNet-50 and deeper (ResNet paper, figure 5 right).

    Args:
        in_channels: of its input.
        width: a quarter of its output's channels.
        stride, stride_in_1x1: of the block, and which convolution has it.
        norm, norm_eps: after each convolution.
        dilation: of the 3×3 convolution.
        groups: of the 3×3 convolution (ResNeXt paper, figure 3c).
        inner: channels of the 3×3 convolution; None: `width`.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        norm: NormKind,
        stride_in_1x1: bool,
        norm_eps: float = NORM_EPS,
        dilation: int = 1,
        groups: int = 1,
        inner: int | None = None,
    ) -> None:
        super().__init__()
        out_channels = self.expansion * width
        inner = inner or width
        self.conv1 = make_conv(in_channels, inner, 1, stride if stride_in_1x1 else 1)
        self.norm1 = make_norm(norm, inner, norm_eps)
        self.conv2 = make_conv(inner, inner, 3, 1 if stride_in_1x1 else stride, dilation, groups)
        self.norm2 = make_norm(norm, inner, norm_eps)
        self.conv3 = make_conv(inner, out_channels, 1)
        self.norm3 = make_norm(norm, out_channels, norm_eps)
        self.shrink: nn.Module = nn.Identity()  # a Shrinkage, where the network has them
        self.shortcut = make_shortcut(in_channels, out_channels, stride, norm, norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H/stride, W/stride], rounded up."""
        out = F.relu(self.norm1(self.conv1(x)))
        out = F.relu(self.norm2(self.conv2(out)))
        out = self.shrink(self.norm3(self.conv3(out)))
        return F.relu(out + self.shortcut(x))


def make_shortcut(in_channels: int, out_channels: int, stride: int, norm: NormKind, norm_eps: float) -> nn.Module:
    """Identity where the shapes agree, else a projection."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return Projection(in_channels, out_channels, stride, norm, norm_eps)


@dataclass(frozen=True)
class ResNetShape:
    """What distinguishes one ResNet of the family from another.

    width: channels of the first 3×3 convolution of conv2_x (64 in the paper); it doubles with every stage.
    groups, width_per_group: of a bottleneck's 3×3 convolution, which then has their product as channels in conv2_x;
    None: `width` in all.
    shrinkage: which thresholds the blocks' branches have, or None for none.
    """

    depth: int
    stem_channels: int = 64
    width: int = 64
    norm: NormKind = "frozen_batch"
    stride_in_1x1: bool = True
    norm_eps: float = NORM_EPS
    groups: int = 1
    width_per_group: int | None = None
    shrinkage: ShrinkageKind | None = None

    @property
    def expansion(self) -> int:
        """Output channels of a block over those of its 3×3 convolution."""
        return BasicBlock.expansion if self.depth in BASIC_BLOCK_DEPTHS else Bottleneck.expansion

    def stage_channels(self, stage: int) -> int:
        """Output channels of conv`stage`_x, 2 ≤ stage ≤ 5; stage 1 is conv1."""
        return self.stem_channels if stage == 1 else self.width * 2 ** (stage - 2) * self.expansion

    def make_stage(self, stage: int, dilation: int = 1) -> nn.Sequential:
        """conv`stage`_x: its first block halves the resolution, except in conv2_x, which follows the max pooling.

        With a dilation the resolution stays, and every 3×3 convolution of the stage looks as far as it would have.
        """
        stride = 1 if stage == 2 or dilation > 1 else 2
        first = self._make_block(stage, self.stage_channels(stage - 1), stride, dilation)
        others = [
            self._make_block(stage, self.stage_channels(stage), 1, dilation)
            for _ in range(BLOCKS_PER_STAGE[self.depth][stage - 2] - 1)
        ]
        return nn.Sequential(first, *others)

    def _make_block(self, stage: int, in_channels: int, stride: int, dilation: int) -> nn.Module:
        block = self._plain_block(stage, in_channels, stride, dilation)
        if self.shrinkage is not None:
            reduction = SHRINKAGE_REDUCTION * self.expansion
            block.shrink = Shrinkage(self.stage_channels(stage), self.shrinkage, reduction)
        return block

    def _plain_block(self, stage: int, in_channels: int, stride: int, dilation: int) -> BasicBlock | Bottleneck:
        factor = 2 ** (stage - 2)
        width = self.width * factor
        if self.depth in BASIC_BLOCK_DEPTHS:
            return BasicBlock(in_channels, width, stride, self.norm, self.norm_eps, dilation)
        inner = None if self.width_per_group is None else self.groups * self.width_per_group * factor
        return Bottleneck(
            in_channels,
            width,
            stride,
            self.norm,
            self.stride_in_1x1,
            self.norm_eps,
            dilation,
            self.groups,
            inner,
        )


class ResNetC4(nn.Module):
    """conv1 … conv4_x: pictures to one map of stride 16, C = 1024 channels for ResNet-50 and deeper.

    Args:
        shape: which ResNet.
        freeze_stages: 0 trains everything, 1 freezes conv1, 2 also conv2_x, … 4 all. Frozen stages get no gradient, and
            their live batch norms keep their statistics.
    """

    stride = 16

    def __init__(self, shape: ResNetShape, freeze_stages: int = 0) -> None:
        super().__init__()
        self.conv1 = make_conv(3, shape.stem_channels, 7, 2)
        self.norm1 = make_norm(shape.norm, shape.stem_channels, shape.norm_eps)
        self.max_pool = nn.MaxPool2d(3, 2, padding=1)
        self.conv2_x = shape.make_stage(2)
        self.conv3_x = shape.make_stage(3)
        self.conv4_x = shape.make_stage(4)
        self.out_channels = shape.stage_channels(4)
        self.freeze_stages = freeze_stages
        for module in self.frozen_modules():
            module.requires_grad_(False)

    def frozen_modules(self) -> list[nn.Module]:
        """The modules of the stages that are not trained."""
        stages: list[list[nn.Module]] = [[self.conv1, self.norm1], [self.conv2_x], [self.conv3_x], [self.conv4_x]]
        return [module for stage in stages[: self.freeze_stages] for module in stage]

    def train(self, mode: bool = True) -> "ResNetC4":
        """Set the mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        for module in self.frozen_modules():
            module.eval()
        return self

    def forward(self, pixels: Tensor) -> Features:
        """Network input [N, 3, H, W] to one map [N, C, ⌈H/16⌉, ⌈W/16⌉]."""
        x = self.max_pool(F.relu(self.norm1(self.conv1(pixels))))
        return (FeatureMap(self.conv4_x(self.conv3_x(self.conv2_x(x))), self.stride),)


class ResNetC5(nn.Module):
    """conv1 … conv5_x: pictures to one map of each stage in `stages`.

    Args:
        shape: which ResNet.
        freeze_stages: as of `ResNetC4`; 5 freezes all.
        conv5_norm: of conv5_x; None: the shape's.
        dilated: conv5_x keeps the stride of 16 of conv4_x, and its 3×3 convolutions are dilated by 2 (DC5).
        stages: whose maps are given, ascending.
    """

    def __init__(
        self,
        shape: ResNetShape,
        freeze_stages: int = 0,
        conv5_norm: NormKind | None = None,
        dilated: bool = False,
        stages: tuple[int, ...] = (5,),
    ) -> None:
        super().__init__()
        self.conv1 = make_conv(3, shape.stem_channels, 7, 2)
        self.norm1 = make_norm(shape.norm, shape.stem_channels, shape.norm_eps)
        self.max_pool = nn.MaxPool2d(3, 2, padding=1)
        self.conv2_x = shape.make_stage(2)
        self.conv3_x = shape.make_stage(3)
        self.conv4_x = shape.make_stage(4)
        self.conv5_x = replace(shape, norm=conv5_norm or shape.norm).make_stage(5, dilation=2 if dilated else 1)
        self.stages = stages
        self.strides = {2: 4, 3: 8, 4: 16, 5: 16 if dilated else 32}
        self.out_channels = shape.stage_channels(stages[-1])
        self.freeze_stages = freeze_stages
        for module in self.frozen_modules():
            module.requires_grad_(False)

    def numbered_stages(self) -> list[tuple[int, nn.Sequential]]:
        """(2, conv2_x) … (5, conv5_x)."""
        return [(2, self.conv2_x), (3, self.conv3_x), (4, self.conv4_x), (5, self.conv5_x)]

    def frozen_modules(self) -> list[nn.Module]:
        """The modules of the stages that are not trained."""
        later: list[list[nn.Module]] = [[stage] for _, stage in self.numbered_stages()]
        stages: list[list[nn.Module]] = [[self.conv1, self.norm1], *later]
        return [module for stage in stages[: self.freeze_stages] for module in stage]

    def train(self, mode: bool = True) -> "ResNetC5":
        """Set the mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        for module in self.frozen_modules():
            module.eval()
        return self

    def forward(self, pixels: Tensor) -> Features:
        """Network input [N, 3, H, W] to maps [N, C, ⌈H/stride⌉, ⌈W/stride⌉], the finest first."""
        x = self.max_pool(F.relu(self.norm1(self.conv1(pixels))))
        maps = []
        for number, stage in self.numbered_stages():
            x = stage(x)
            if number in self.stages:
                maps.append(FeatureMap(x, self.strides[number]))
        return tuple(maps)
