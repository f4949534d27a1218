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
        shrink: what is done to the last convolution's result before the shortcut is added; that unit then has no ReLU.
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
        residual = x if self.shortcut is None else self.shortcut(x)
        if self.shrink is None:
            return self.last(out, residual)
        shrunk: Tensor = self.shrink(self.last(out))
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
        stages = (fuse_stage(s, execution) for s in (backbone.conv2_x, backbone.conv3_x, backbone.conv4_x))
        self.layers: nn.Module = nn.Sequential(conv1, backbone.max_pool, *stages)

    def forward(self, pixels: Tensor) -> Features:
        """Network input [N, 3, H, W] to one map [N, C, H', W'], channels-last."""
        pixels = self.execution.channels_last(pixels)
        # On a CPU one picture at a time: together they would be no faster and take more memory.
        parts = torch.split(pixels, 1) if pixels.device.type == "cpu" else (pixels,)
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
        maps = run_by_picture(self.layers, self.execution.channels_last(pixels))
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


def run_by_picture(layers: nn.Module, pixels: Tensor) -> Sequence[Tensor]:
    """The maps that `layers` makes of pictures [N, 3, H, W]; on a CPU one picture at a time, as `ResNetC4` does."""
    parts = torch.split(pixels, 1) if pixels.device.type == "cpu" else (pixels,)
    maps = [layers(part) for part in parts]
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
            # cuDNN has no kernel for a bias alone; it may as well be added with that of the convolution that it joins.
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
