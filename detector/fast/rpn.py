"""The region proposal network, fast. The twin of `detector.model.rpn`.

How it works: objectness and deltas come from one 1×1 convolution, whose outputs are those of the two sibling layers
side by side; channels-last, an anchor's numbers already lie beside each other.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detector.fast.choose import TILE_BLOCK
from detector.fast.convolution import Execution, FusedConv
from detector.fast.folding import fuse_conv
from detector.model import rpn as plain
from detector.model.rpn import AnchorScores, take_anchors
from detector.structures import Features


class RPNHead(nn.Module):
    """The 3×3 convolutions and the two sibling layers, with copies of the parameters.

    Args:
        head: whose parameters are copied.
        execution: type and kernels.
        tiles: that its 3×3 convolutions compute together, where they compute by tiles.
    """

    def __init__(self, head: plain.RPNHead, execution: Execution, tiles: int = TILE_BLOCK) -> None:
        super().__init__()
        self.execution = execution
        first, *others = (fuse_conv(conv, None, True, execution, tiles=tiles) for conv in head.convs())
        self.conv, self.more_convs = first, nn.Sequential(*others)
        # In float32 or better even in a bfloat16 network: it is cheap, and equal logits would be ordered by chance.
        self.precise = Execution(execution.precision, execution.onednn)
        layers = (head.objectness, head.anchor_deltas)
        weight = torch.cat([layer.weight.detach() for layer in layers])
        bias = torch.cat([layer.bias.detach() for layer in layers if layer.bias is not None])
        self.siblings = FusedConv(weight, bias, 1, 0, False, self.precise)
        self.anchors_per_cell = head.objectness.out_channels

    def forward(self, features: Features) -> list[AnchorScores]:
        """Score and refine every anchor of each feature map [N, C, H', W']; float32."""
        return [self._of_one_map(values) for values, _ in features]

    def at(self, features: Features, chosen: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [S] and deltas [S, 4] of the anchors with the numbers in N tensors."""
        return take_anchors(self(features), chosen)

    def _of_one_map(self, values: Tensor) -> AnchorScores:
        hidden = self.more_convs(self.conv(self.execution.channels_last(values)))
        outputs = self.siblings(self.precise.channels_last(hidden)).permute(0, 2, 3, 1).float()
        a = self.anchors_per_cell
        logits = outputs[..., :a].flatten(1)  # [N, H', W', A] -> [N, H'·W'·A]
        return AnchorScores(logits, outputs[..., a:].unflatten(3, (a, 4)).flatten(1, 3))  # -> [N, H'·W'·A, 4]
