"""ResNet-18/34/50/101/152 and ResNeXt as conv1, conv2_x … conv5_x (ResNet paper, table 1; ResNeXt paper, table 1).

In a C4 detector conv1 … conv4_x is the backbone, shared by the region proposal network and RoI pooling; conv5_x runs on
every RoI (ResNet paper, appendix A) and halves its resolution. In other detectors all five stages are the backbone,
whose maps have 1/2 (conv1), 1/4, 1/8, 1/16 and 1/32 of the picture's resolution.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from detector.model.blocks import NORM_EPS, BasicBlock, Bottleneck, NormKind, make_conv, make_norm
from detector.model.shrinkage import Shrinkage, ShrinkageKind
from detector.structures import FeatureMap, Features

BLOCKS_PER_STAGE = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
BASIC_BLOCK_DEPTHS = (18, 34)
SHRINKAGE_REDUCTION = 4  # channels of a block's 3×3 convolution over those that find its thresholds: see `shrinkage.py`


@dataclass(frozen=True)
class ResNetShape:
    """What distinguishes one ResNet of the family from another.

    stem_channels: of conv1 (64 in the paper).
    width: channels of the 3×3 convolutions of conv2_x (64 in the paper); it doubles with every stage.
    norm, norm_eps: after every convolution.
    stride_in_1x1: whether a bottleneck's stride is in its first 1×1 convolution or in its 3×3 one.
    groups, width_per_group: of a bottleneck's 3×3 convolutions (ResNeXt), which have their product as channels in
    conv2_x, twice as many in conv3_x and so on; with width_per_group None they have `width` channels in all.
    shrinkage: which thresholds the residual branches have, or None for none.
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
        """A block of conv`stage`_x, with its thresholds where the shape has them."""
        block = self._plain_block(stage, in_channels, stride, dilation)
        if self.shrinkage is not None:
            reduction = SHRINKAGE_REDUCTION * self.expansion
            block.shrink = Shrinkage(self.stage_channels(stage), self.shrinkage, reduction)
        return block

    def _plain_block(self, stage: int, in_channels: int, stride: int, dilation: int) -> BasicBlock | Bottleneck:
        """A block of conv`stage`_x without thresholds: basic for ResNet-18 and 34, a bottleneck for the others."""
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


class Stages(nn.Module):
    """conv1, the max pooling and conv2_x … conv4_x, which both backbones begin with; the first stages may be frozen.

    Args:
        shape: which ResNet.
    """

    freeze_stages: int

    def __init__(self, shape: ResNetShape) -> None:
        super().__init__()
        self.conv1 = make_conv(3, shape.stem_channels, 7, 2)
        self.norm1 = make_norm(shape.norm, shape.stem_channels, shape.norm_eps)
        self.max_pool = nn.MaxPool2d(3, 2, padding=1)
        self.conv2_x = shape.make_stage(2)
        self.conv3_x = shape.make_stage(3)
        self.conv4_x = shape.make_stage(4)

    def stem(self, pixels: Tensor) -> Tensor:
        """conv1 and the max pooling: network input [N, 3, H, W] to [N, C, ⌈H/4⌉, ⌈W/4⌉]."""
        x: Tensor = self.max_pool(F.relu(self.norm1(self.conv1(pixels))))
        return x

    def numbered_stages(self) -> list[tuple[int, nn.Sequential]]:
        """The stages after conv1 with their numbers: (2, conv2_x) … (4, conv4_x)."""
        return [(2, self.conv2_x), (3, self.conv3_x), (4, self.conv4_x)]

    def freeze(self, stages: int) -> None:
        """Leave the first `stages` stages untrained; conv1 is the first of them."""
        self.freeze_stages = stages
        for module in self.frozen_modules():
            module.requires_grad_(False)

    def frozen_modules(self) -> list[nn.Module]:
        """The modules of the stages that are not trained."""
        later: list[list[nn.Module]] = [[stage] for _, stage in self.numbered_stages()]
        stages: list[list[nn.Module]] = [[self.conv1, self.norm1], *later]
        return [module for stage in stages[: self.freeze_stages] for module in stage]

    def train(self, mode: bool = True) -> Self:
        """Set the mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        for module in self.frozen_modules():
            module.eval()
        return self


class ResNetC4(Stages):
    """conv1 … conv4_x: pictures to one map of stride 16, C = 1024 channels for ResNet-50 and deeper.

    Args:
        shape: which ResNet.
        freeze_stages: 0 trains everything, 1 freezes conv1, 2 also conv2_x, … 4 all. Frozen stages get no gradient, and
            their live batch norms keep their statistics.
    """

    stride = 16

    def __init__(self, shape: ResNetShape, freeze_stages: int = 0) -> None:
        super().__init__(shape)
        self.out_channels = shape.stage_channels(4)
        self.freeze(freeze_stages)

    def forward(self, pixels: Tensor) -> Features:
        """Network input [N, 3, H, W] to one map [N, C, ⌈H/16⌉, ⌈W/16⌉]."""
        values = self.conv4_x(self.conv3_x(self.conv2_x(self.stem(pixels))))
        return (FeatureMap(values, self.stride),)


class ResNetC5(Stages):
    """conv1 … conv5_x: pictures to one map of each stage in `stages`.

    Args:
        shape: which ResNet.
        freeze_stages: as for `ResNetC4`; 5 freezes all.
        conv5_norm: the norm of conv5_x; None: that of the shape.
        dilated: conv5_x keeps the stride of 16 of conv4_x, and its 3×3 convolutions are dilated by 2 (DC5).
        stages: the numbers, ascending, of the stages whose maps are returned.
    """

    def __init__(
        self,
        shape: ResNetShape,
        freeze_stages: int = 0,
        conv5_norm: NormKind | None = None,
        dilated: bool = False,
        stages: tuple[int, ...] = (5,),
    ) -> None:
        super().__init__(shape)
        self.conv5_x = replace(shape, norm=conv5_norm or shape.norm).make_stage(5, dilation=2 if dilated else 1)
        self.stages = stages
        self.strides = {2: 4, 3: 8, 4: 16, 5: 16 if dilated else 32}
        self.out_channels = shape.stage_channels(stages[-1])
        self.freeze(freeze_stages)

    def numbered_stages(self) -> list[tuple[int, nn.Sequential]]:
        """The stages after conv1 with their numbers: (2, conv2_x) … (5, conv5_x)."""
        return [*super().numbered_stages(), (5, self.conv5_x)]

    def forward(self, pixels: Tensor) -> Features:
        """Network input [N, 3, H, W] to maps [N, C, ⌈H/stride⌉, ⌈W/stride⌉], the finest first."""
        x = self.stem(pixels)
        maps = []
        for number, stage in self.numbered_stages():
            x = stage(x)
            if number in self.stages:
                maps.append(FeatureMap(x, self.strides[number]))
        return tuple(maps)
