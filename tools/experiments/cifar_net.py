"""The ResNet paper's networks for small pictures (§4.2), of the detector's own blocks."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from detector.errors import UserError
from detector.model.blocks import BasicBlock, make_conv, make_norm
from detector.model.resnet import SHRINKAGE_REDUCTION
from detector.model.shrinkage import Shrinkage, ShrinkageKind

ShortcutKind = Literal["identity", "projection", "none"]


class PaddedIdentity(nn.Module):
    """Shortcut without weights where the width or the stride changes (ResNet paper §3.3, option A).

    It keeps every `stride`-th cell, and fills the channels beyond those of its input with zeros.
    """

    def __init__(self, new_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels = new_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C', H/stride, W/stride], rounded up."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))


class NoShortcut(nn.Module):
    """What a plain network has in place of a shortcut: zero."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to a scalar that changes nothing where it is added."""
        return x.new_zeros(())


def make_block(
    in_channels: int, width: int, stride: int, shortcut: ShortcutKind, shrinkage: ShrinkageKind | None = None
) -> BasicBlock:
    """The detector's basic block, with the shortcut that an experiment asks for (ResNet paper §3.3).

    shortcut: `projection` (option B, the detector's): the identity where the shapes agree, else a projection.
        `identity` (option A): likewise, with zeros for new channels in place of a projection. `none`: a plain network.
    shrinkage: the thresholds of its branch, as the detector's backbone has them; None for none.
    """
    block = BasicBlock(in_channels, width, stride, "batch")
    if shrinkage is not None:
        block.shrink = Shrinkage(width, shrinkage, SHRINKAGE_REDUCTION)
    if shortcut == "none":
        block.shortcut = NoShortcut()
    elif shortcut == "identity" and not isinstance(block.shortcut, nn.Identity):
        block.shortcut = PaddedIdentity(width - in_channels, stride)
    return block


class CifarNet(nn.Module):
    """A 3×3 convolution, three stages of n blocks, an average and a linear layer: 6n + 2 layers.

    The first stage has the picture's resolution, the others half and a quarter of it, with twice and four times the
    channels. With `shortcut="none"` it is the paper's plain network.

    Args:
        depth: 6n + 2, such as 20, 32, 44, 56 and 110.
        width: channels of the first stage, 16 in the paper.
        num_classes: K.
        shortcut, shrinkage: as for `make_block`; the paper's networks of this form have `identity`, and no thresholds.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        num_classes: int,
        shortcut: ShortcutKind,
        shrinkage: ShrinkageKind | None = None,
    ) -> None:
        super().__init__()
        blocks = blocks_per_stage(depth)
        self.conv1 = make_conv(3, width, 3)
        self.norm1 = make_norm("batch", width)
        stages = []
        channels = width
        for stage in range(3):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                stages.append(make_block(channels, width * 2**stage, stride, shortcut, shrinkage))
                channels = width * 2**stage
        self.blocks = nn.Sequential(*stages)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures [N, 3, S, S] to class logits [N, K]."""
        x = F.relu(self.norm1(self.conv1(x)))
        return self.classifier(self.blocks(x).mean(dim=(2, 3)))


def blocks_per_stage(depth: int) -> int:
    """n of a network with 6n + 2 layers.

    Raises:
        UserError: no network of this form has so many.
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest != 0 or blocks < 1:
        raise UserError(f"{depth} layers: networks of this form have 6n + 2; choose 8, 14, 20, 32, 44, 56 or 110.")
    return blocks
