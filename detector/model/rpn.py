"""The region proposal network's head: objectness and box deltas for every anchor (Faster R-CNN §3.1)."""

import torch.nn.functional as F
from torch import Tensor, nn

from detector.model.precision import at_least_float32


class RPNHead(nn.Module):
    """A 3×3 convolution and two sibling 1×1 convolutions slid over the feature map.

    Objectness is one logit per anchor, for which the paper has a two-class softmax (§3.1, footnote 3 names both).

    Args:
        in_channels: C of the feature map.
        channels: of the 3×3 convolution.
        anchors_per_cell: A.
    """

    def __init__(self, in_channels: int, channels: int, anchors_per_cell: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.objectness = nn.Conv2d(channels, anchors_per_cell, 1)
        self.anchor_deltas = nn.Conv2d(channels, 4 * anchors_per_cell, 1)
        for layer in (self.conv, self.objectness, self.anchor_deltas):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Score and refine every anchor.

        Args:
            features: [N, C, H', W'].

        Returns:
            Objectness logits [N, H'·W'·A] and deltas [N, H'·W'·A, 4], float32 or better, in the order of
            `AnchorGenerator`.
        """
        return self.predict(F.relu(self.conv(features)))

    def predict(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The sibling layers on the 3×3 convolution's output [N, channels, H', W'], as `forward`."""
        return flatten_head(self.objectness(hidden), self.anchor_deltas(hidden))


def flatten_head(objectness: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
    """Head maps to one row per anchor: [N, A, H', W'] and [N, A·4, H', W'] -> [N, H'·W'·A] and [N, H'·W'·A, 4]."""
    n, a, height, width = objectness.shape
    logits = objectness.permute(0, 2, 3, 1).flatten(1)
    deltas = deltas.view(n, a, 4, height, width).permute(0, 3, 4, 1, 2).flatten(1, 3)
    return at_least_float32(logits), at_least_float32(deltas)
