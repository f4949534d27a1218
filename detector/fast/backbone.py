"""conv1 … conv5_x, fast. The twins of `detector.model.resnet.ResNetC4` and `ResNetC5`.

How it works: every convolution becomes one unit, with the norm folded into its weights; its bias, the block's shortcut
and the ReLU are computed as it writes its result (`folding.py`). Everything stays channels-last. Which kernel computes
a convolution is decided when its unit is made.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detector.fast.choose import choose_convolution
from detector.fast.convolution import Execution, RoIMaps
from detector.fast.folding import Unit, fold_norm, fuse_conv, is_foldable
from detector.model import resnet as plain
from detector.model.blocks import BasicBlock, Bottleneck, Projection
from detector.model.shrinkage import Shrinkage
from detector.structures import FeatureMap, Features


class FusedBlock(nn.Module):
    """A residual block. Its input may be overwritten.

    Args:
        units: the block's convolutions in order, each with its ReLU; the last one also adds the shortcut.
        shortcut: the projection, or None for the identity.
        shrink: as for `finish_block`.
    """

    def __init__(self, units: list[Unit], shortcut: Unit | None, shrink: nn.Module | None = None) -> None:
        super().__init__()
        self.first = nn.Sequential(*units[:-1])
        self.last = units[-1]
        self.shortcut = shortcut
        self.shrink = shrink

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C', H', W'], both channels-last."""
        out = self.first(x)
        return finish_block(self.last, self.shrink, out, x if self.shortcut is None else self.shortcut(x))


def finish_block(last: Unit, shrink: nn.Module | None, x: Tensor, residual: Tensor) -> Tensor:
    """A residual block from its last convolution on: shrinkage where it has that, the shortcut's addition, the ReLU.

    Args:
        last: the convolution, with the ReLU where there is no shrinkage.
        shrink: what is done to its result before the shortcut is added, or None.
        x: [N, C, H, W] channels-last, the input of that convolution.
        residual: [N, C', H, W] channels-last, of the shortcut; it may be overwritten.
    """
    if shrink is None:
        return last(x, residual)
    shrunk: Tensor = shrink(last(x))
    shrunk += residual
    return shrunk.relu_()


class ResNetC4(nn.Module):
    """conv1 … conv4_x from fused blocks, with copies of the parameters.

    Args:
        backbone: whose parameters are copied.
        execution: type and kernels.
    """

    def __init__(self, backbone: plain.ResNetC4, execution: Execution) -> None:
        super().__init__()
        self.execution = execution
        self.stride = backbone.stride
        conv1 = fuse_conv(backbone.conv1, backbone.norm1, True, execution)
        stages = (fuse_stage(stage, execution) for _, stage in backbone.numbered_stages())
        self.layers: nn.Module = nn.Sequential(conv1, backbone.max_pool, *stages)

    def forward(self, pixels: Tensor) -> Features:
        """Network input [N, 3, H, W] to one map [N, C, H', W'], channels-last."""
        parts = split_for_device(self.execution.channels_last(pixels))
        return (FeatureMap(torch.cat([self.layers(part) for part in parts]), self.stride),)


class ResNetC5(nn.Module):
    """conv1 … conv5_x from fused blocks, with copies of the parameters.

    Args:
        backbone: whose parameters are copied.
        execution: type and kernels.
    """

    def __init__(self, backbone: plain.ResNetC5, execution: Execution) -> None:
        super().__init__()
        self.execution = execution
        self.strides = [backbone.strides[stage] for stage in backbone.stages]
        self.layers: nn.Module = FusedStages(backbone, execution)

    def forward(self, pixels: Tensor) -> Features:
        """Network input [N, 3, H, W] to the maps of the stages that are wanted, channels-last."""
        maps = run_levels(self.layers, self.execution.channels_last(pixels))
        return tuple(FeatureMap(values, stride) for values, stride in zip(maps, self.strides, strict=True))


class FusedStages(nn.Module):
    """conv1 … conv5_x: pictures to the maps of some stages.

    backbone, execution: as for `ResNetC5`.
    """

    def __init__(self, backbone: plain.ResNetC5, execution: Execution) -> None:
        super().__init__()
        conv1 = fuse_conv(backbone.conv1, backbone.norm1, True, execution)
        self.stem = nn.Sequential(conv1, backbone.max_pool)
        self.stages = nn.ModuleList(fuse_stage(stage, execution) for _, stage in backbone.numbered_stages())
        self.wanted = [number in backbone.stages for number, _ in backbone.numbered_stages()]

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, 3, H, W] channels-last to the maps, channels-last, the finest first."""
        x = self.stem(x)
        maps = []
        # A stage opens with a projection, so that its input, which may be wanted, is not overwritten.
        for stage, is_wanted in zip(self.stages, self.wanted, strict=True):
            x = stage(x)
            if is_wanted:
                maps.append(x)
        return maps


def split_for_device(pixels: Tensor) -> Sequence[Tensor]:
    """Network input [N, 3, H, W] in the parts that go through a backbone together.

    On a CPU that is one picture at a time: several at once would be no faster and take more memory.
    """
    return torch.split(pixels, 1) if pixels.device.type == "cpu" else (pixels,)


def run_levels(layers: nn.Module, pixels: Tensor) -> Sequence[Tensor]:
    """The maps of several resolutions, the finest first, that `layers` makes of network input [N, 3, H, W]."""
    maps = [layers(part) for part in split_for_device(pixels)]
    return maps[0] if len(maps) == 1 else [torch.cat(level) for level in zip(*maps, strict=True)]


def fuse_stage(stage: nn.Sequential, execution: Execution, maps: RoIMaps | None = None) -> nn.Sequential:
    """conv2_x, conv3_x, conv4_x or conv5_x of fused blocks. maps: its inputs, where they are always of one size."""
    blocks = []
    for block in stage:
        assert isinstance(block, BasicBlock | Bottleneck)
        blocks.append(fuse_block(block, execution, maps))
        maps = None if maps is None else maps.after(block.conv1.stride[0]).after(block.conv2.stride[0])
    return nn.Sequential(*blocks)


def fuse_block(block: BasicBlock | Bottleneck, execution: Execution, maps: RoIMaps | None = None) -> FusedBlock:
    """One block with all that follows each convolution fused to it. maps: as for `fuse_stage`."""
    shortcut: Unit | None = None
    shift = None
    shrink = copy_of_shrinkage(block, execution)
    if isinstance(block.shortcut, Projection):
        conv, norm = block.shortcut.conv, block.shortcut.norm
        if execution.cudnn and shrink is None and is_foldable(norm):
            # cuDNN has no kernel for a bias alone, so the shortcut's is added together with the last convolution's.
            weight, shift = fold_norm(conv, norm)
            shortcut = choose_convolution(weight, None, conv.stride[0], 0, False, execution, maps)
        else:
            shortcut = fuse_conv(conv, norm, False, execution, maps=maps)
    *opening, last = convolutions(block)
    units = []
    for conv, norm in opening:
        units.append(fuse_conv(conv, norm, True, execution, maps=maps))
        maps = None if maps is None else maps.after(conv.stride[0])
    units.append(fuse_conv(*last, shrink is None, execution, shift, maps))
    return FusedBlock(units, shortcut, shrink)


def copy_of_shrinkage(block: BasicBlock | Bottleneck, execution: Execution) -> nn.Module | None:
    """A block's thresholds, in the type that is computed in; None where it has none. They cannot be folded away."""
    return copy.deepcopy(block.shrink).to(execution.dtype) if isinstance(block.shrink, Shrinkage) else None


def convolutions(block: BasicBlock | Bottleneck) -> list[tuple[nn.Conv2d, nn.Module]]:
    """A block's convolutions, each with its norm, in order."""
    pairs = [(block.conv1, block.norm1), (block.conv2, block.norm2)]
    if isinstance(block, Bottleneck):
        pairs.append((block.conv3, block.norm3))
    return pairs
