"""The feature pyramid, fast. The twin of `detector.model.fpn`.

How it works: a lateral convolution adds the doubled coarser map as it writes its result. The 3×3 convolutions of the
levels, most of a pyramid's work, multiply less on large maps (`winograd.py`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.fast.backbone import FusedStages, run_levels
from detector.fast.choose import PYRAMID_TILE_BLOCK
from detector.fast.convolution import Execution
from detector.fast.folding import fuse_normed
from detector.model import fpn as plain
from detector.structures import FeatureMap, Features


class FPN(nn.Module):
    """A ResNet and its pyramid from fused units, with copies of the parameters.

    Args:
        backbone: whose parameters are copied.
        execution: type and kernels.
    """

    def __init__(self, backbone: plain.FPN, execution: Execution) -> None:
        super().__init__()
        self.execution = execution
        self.strides = [backbone.body.strides[stage] for stage in backbone.body.stages]
        self.layers: nn.Module = nn.Sequential(FusedStages(backbone.body, execution), FusedPyramid(backbone, execution))

    def forward(self, pixels: Tensor) -> Features:
        """Network input [N, 3, H, W] to five maps of strides 4 to 64, channels-last."""
        maps = run_levels(self.layers, self.execution.channels_last(pixels))
        levels = [FeatureMap(values, stride) for values, stride in zip(maps, self.strides, strict=True)]
        coarsest, stride = plain.subsampled(levels[-1])
        return (*levels, FeatureMap(coarsest.contiguous(memory_format=torch.channels_last), stride))


class FusedPyramid(nn.Module):
    """The maps of a ResNet's stages to the levels that regions come from.

    backbone, execution: as for `FPN`.
    """

    def __init__(self, backbone: plain.FPN, execution: Execution) -> None:
        super().__init__()
        self.lateral, self.output = (
            nn.ModuleList(fuse_normed(conv, False, execution, tiles=PYRAMID_TILE_BLOCK) for conv in convs)
            for convs in (backbone.lateral, backbone.output)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps [N, C_i, H', W'] to levels [N, C, H', W'], both channels-last and the finest first.

        The maps are taken out of their list, so that none takes memory for longer than it is needed.
        """
        merged, levels = None, []
        for lateral, output in zip(reversed(self.lateral), reversed(self.output), strict=True):
            values = maps.pop()
            if merged is None:
                merged = lateral(values)
            else:
                merged = lateral(values, F.interpolate(merged, size=values.shape[2:], mode="nearest"))
            del values
            levels.append(output(merged))
        return levels[::-1]
