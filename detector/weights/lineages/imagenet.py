"""ImageNet ResNets of other frameworks: which one a file holds, how it wants its pictures, and its tensors as ours."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from torch import Tensor

from detector.config import BackboneConfig, Config
from detector.errors import UserError
from detector.model.resnet import BASIC_BLOCK_DEPTHS, BLOCKS_PER_STAGE
from detector.weights.lineages.caffe2_resnet import from_caffe2, is_caffe2
from detector.weights.lineages.torchvision_resnet import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    from_torchvision_resnet,
    is_torchvision_resnet,
)

ResNetNames = Literal["torchvision", "caffe2"]

# Their names of conv1, of the convolutions of conv2_x's first block, and of the blocks of conv2_x to conv4_x.
_NAMES = {
    "torchvision": ("conv1.weight", "layer1.0.conv{}.weight", re.compile(r"^layer([123])\.(\d+)\.")),
    "caffe2": ("conv1_w", "res2_0_branch2{}_w", re.compile(r"^res([234])_(\d+)_")),
}
_CONVS = {"torchvision": "123", "caffe2": "abc"}


def resnet_names_of(tensors: Mapping[str, Tensor]) -> ResNetNames | None:
    """Which framework's names the tensors of a ResNet have; None where it is not a ResNet known here."""
    if is_torchvision_resnet(tensors):
        return "torchvision"
    return "caffe2" if is_caffe2(tensors) else None


def imagenet_state(tensors: Mapping[str, Tensor], config: Config, where: str) -> dict[str, Tensor]:
    """Their tensors as our conv1 … conv5_x, for RGB pixels, as `config` describes the backbone.

    torchvision's names do not say in which order the first convolution expects the channels;
    `model.backbone.weights_channels` does.

    Raises:
        UserError: every tensor that is left over, missing or of another shape.
    """
    if is_torchvision_resnet(tensors):
        return from_torchvision_resnet(tensors, config, where, config.model.backbone.weights_channels)
    return from_caffe2(tensors, config, where)


def imagenet_config(tensors: Mapping[str, Tensor], names: ResNetNames, where: str) -> Config:
    """A config whose backbone is the ImageNet ResNet of this file, fed as it was in training.

    Args:
        tensors: by torchvision's names (`torchvision`) or Caffe2's (`caffe2`), as `names` says.
    """
    backbone = backbone_of(tensors, names, where)
    config = Config()
    pixels = config.input
    if names == "torchvision":
        pixels = replace(pixels, pixel_mean=IMAGENET_MEAN, pixel_std=IMAGENET_STD)
    return replace(config, model=replace(config.model, backbone=backbone), input=pixels)


def backbone_of(tensors: Mapping[str, Tensor], names: ResNetNames, where: str) -> BackboneConfig:
    """Depth and widths of a ResNet; conv5_x is not looked at, so it may be missing.

    Args:
        tensors: by torchvision's or Caffe2's names, as `names` says; which also says where their networks have the
            stride of a bottleneck.

    Raises:
        UserError: no ResNet of the family has these blocks.
    """
    stem, conv, block = _NAMES[names]
    first, second, third = (conv.format(letter) for letter in _CONVS[names])
    basic = third not in tensors
    counted: dict[str, set[str]] = {}
    for match in filter(None, map(block.match, tensors)):
        counted.setdefault(match[1], set()).add(match[2])
    blocks = tuple(len(counted[stage]) for stage in sorted(counted))
    for depth, expected in BLOCKS_PER_STAGE.items():
        if blocks == expected[:3] and basic == (depth in BASIC_BLOCK_DEPTHS):
            break
    else:
        raise UserError(f"{where}: {blocks} blocks in conv2_x to conv4_x match no ResNet-18, 34, 50, 101 or 152.")
    return BackboneConfig(
        depth=depth,
        stem_channels=tensors[stem].shape[0],
        width=tensors[first if basic else second].shape[0],  # of the first 3×3
        stride_in_1x1=names == "caffe2",
    )
