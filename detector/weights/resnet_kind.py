"""Which ResNet a state dict holds, from its names and shapes alone."""

import re
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from detector.config import BackboneConfig
from detector.errors import UserError
from detector.model.resnet import BASIC_BLOCK_DEPTHS, BLOCKS_PER_STAGE

ResNetNames = Literal["torchvision", "caffe2"]

# Their names of conv1, of the convolutions of conv2_x's first block, and of the blocks of conv2_x to conv4_x.
_NAMES = {
    "torchvision": ("conv1.weight", "layer1.0.conv{}.weight", re.compile(r"^layer([123])\.(\d+)\.")),
    "caffe2": ("conv1_w", "res2_0_branch2{}_w", re.compile(r"^res([234])_(\d+)_")),
}
_CONVS = {"torchvision": "123", "caffe2": "abc"}


def backbone_of(tensors: Mapping[str, Tensor], kind: ResNetNames, where: str) -> BackboneConfig:
    """Depth and widths of a ResNet; conv5_x is not looked at, so it may be missing.

    Args:
        tensors: by torchvision's or Caffe2's names, as `kind` says; which also says where their networks have the
            stride of a bottleneck.

    Raises:
        UserError: no ResNet of the family has these blocks.
    """
    stem, conv, block = _NAMES[kind]
    first, second, third = (conv.format(letter) for letter in _CONVS[kind])
    basic = third not in tensors
    counted: dict[str, set[str]] = {}
    for match in filter(None, map(block.match, tensors)):
        counted.setdefault(match[1], set()).add(match[2])
    blocks = tuple(len(counted[stage]) for stage in sorted(counted))
    for depth, expected in BLOCKS_PER_STAGE.items():
        if blocks == expected[:3] and basic == (depth in BASIC_BLOCK_DEPTHS):
            break
    else:
        raise UserError(f"{where}: {blocks} blocks in conv2_x to conv4_x are of no ResNet-18, 34, 50, 101 or 152.")
    return BackboneConfig(
        depth=depth,
        stem_channels=tensors[stem].shape[0],
        width=tensors[first if basic else second].shape[0],  # of the first 3×3
        stride_in_1x1=kind == "caffe2",
    )
