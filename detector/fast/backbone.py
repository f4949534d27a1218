"""ResNet stages made of fused units."""

from torch import Tensor, nn

from detector.fast.convolution import Execution, RoIMaps
from detector.fast.folding import Unit, fuse_conv
from detector.model.resnet import BasicBlock, Bottleneck, Projection, ResNetC4


class FusedBlock(nn.Module):
    """A residual block. Its input may be overwritten.

    Args:
        units: the block's convolutions in order, each with its ReLU; the last one also adds the shortcut.
        shortcut: the projection, or None for the identity.
    """

    def __init__(self, units: list[Unit], shortcut: Unit | None) -> None:
        super().__init__()
        self.first = nn.Sequential(*units[:-1])
        self.last = units[-1]
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.first(x)
        residual = x if self.shortcut is None else self.shortcut(x)
        return self.last(out, residual)


class FusedBackbone(nn.Module):
    """conv1 … conv4_x."""

    def __init__(self, backbone: ResNetC4, execution: Execution) -> None:
        super().__init__()
        self.conv1 = fuse_conv(backbone.conv1, backbone.norm1, True, execution)
        self.max_pool = backbone.max_pool
        self.stages = nn.Sequential(
            *(fuse_stage(stage, execution) for stage in (backbone.conv2_x, backbone.conv3_x, backbone.conv4_x))
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """[N, 3, H, W] to [N, C, H', W'], both channels-last."""
        return self.stages(self.max_pool(self.conv1(pixels)))


def fuse_stage(stage: nn.Sequential, execution: Execution, maps: RoIMaps | None = None) -> nn.Sequential:
    """conv2_x, conv3_x, conv4_x or conv5_x. maps: what it is applied to, where that is always of one size."""
    blocks = []
    for block in stage:
        assert isinstance(block, BasicBlock | Bottleneck)
        blocks.append(fuse_block(block, execution, maps))
        maps = None if maps is None else maps.after(block.conv1.stride[0]).after(block.conv2.stride[0])
    return nn.Sequential(*blocks)


def fuse_block(block: BasicBlock | Bottleneck, execution: Execution, maps: RoIMaps | None = None) -> FusedBlock:
    """One block with all that follows each convolution fused to it."""
    shortcut = None
    if isinstance(block.shortcut, Projection):
        shortcut = fuse_conv(block.shortcut.conv, block.shortcut.norm, False, execution, maps=maps)
    units = []
    for conv, norm in convolutions(block):
        units.append(fuse_conv(conv, norm, True, execution, maps=maps))
        maps = None if maps is None else maps.after(conv.stride[0])
    return FusedBlock(units, shortcut)


def convolutions(block: BasicBlock | Bottleneck) -> list[tuple[nn.Conv2d, nn.Module]]:
    """A block's convolutions, each with its norm, in order."""
    pairs = [(block.conv1, block.norm1), (block.conv2, block.norm2)]
    if isinstance(block, Bottleneck):
        pairs.append((block.conv3, block.norm3))
    return pairs
