"""The region proposal network: objectness and box deltas for every anchor (Faster R-CNN §3.1)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.model.half_precision import at_least_float32
from detector.structures import Features


class AnchorScores(NamedTuple):
    """What the network predicts for the anchors of one feature map, in the order of `AnchorGrid`.

    logits: objectness, [N, H'·W'·A]. deltas: [N, H'·W'·A, 4]. Both float32 or better.
    """

    logits: Tensor
    deltas: Tensor


class RPNHead(nn.Module):
    """A 3×3 convolution (or several) and two sibling 1×1 convolutions slid over every feature map.

    All maps of a pyramid share the layers (FPN paper §4.1). Objectness is one logit per anchor, where the paper has a
    two-class softmax (a footnote of §3.1 names both). Fresh weights are zero-mean Gaussians (§3.1.3), biases 0.

    Args:
        in_channels: C of the feature maps.
        channels: of the 3×3 convolutions.
        anchors_per_cell: A.
        conv_layers: how many 3×3 convolutions, each with a ReLU.
    """

    def __init__(self, in_channels: int, channels: int, anchors_per_cell: int, conv_layers: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.more_convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(1, conv_layers))
        self.objectness = nn.Conv2d(channels, anchors_per_cell, 1)
        self.anchor_deltas = nn.Conv2d(channels, 4 * anchors_per_cell, 1)
        for layer in (*self.convs(), self.objectness, self.anchor_deltas):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, features: Features) -> list[AnchorScores]:
        """Score and refine every anchor of each feature map."""
        return [self.predict(self.hidden(values)) for values, _ in features]

    def convs(self) -> list[nn.Conv2d]:
        """The 3×3 convolutions in order."""
        return [self.conv, *(conv for conv in self.more_convs if isinstance(conv, nn.Conv2d))]

    def hidden(self, values: Tensor) -> Tensor:
        """What the sibling layers see of a map: [N, C, H', W'] to [N, channels, H', W']."""
        for conv in self.convs():
            values = F.relu(conv(values))
        return values

    def predict(self, hidden: Tensor) -> AnchorScores:
        """The sibling layers on the last 3×3 convolution's output [N, channels, H', W']."""
        return flatten_head(self.objectness(hidden), self.anchor_deltas(hidden))

    def at(self, features: Features, chosen: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [S] and deltas [S, 4] of a few anchors, for the losses.

        Args:
            features: of N pictures.
            chosen: N tensors of anchor numbers, together S; the feature maps' anchors follow each other.
        """
        return take_anchors(self(features), chosen)


def take_anchors(scores: Sequence[AnchorScores], chosen: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Logits [S] and deltas [S, 4] of the chosen anchors, picked from those of all; `chosen` is as in `RPNHead.at`."""
    logits, deltas = (torch.cat(maps, dim=1) for maps in zip(*scores, strict=True))
    return (
        torch.cat([logits[i, index] for i, index in enumerate(chosen)]),
        torch.cat([deltas[i, index] for i, index in enumerate(chosen)]),
    )


def flatten_head(objectness: Tensor, deltas: Tensor) -> AnchorScores:
    """Maps to one row per anchor: [N, A, H', W'] and [N, A·4, H', W'] -> [N, H'·W'·A] and [N, H'·W'·A, 4]."""
    n, a, height, width = objectness.shape
    logits = objectness.permute(0, 2, 3, 1).flatten(1)
    deltas = deltas.view(n, a, 4, height, width).permute(0, 3, 4, 1, 2).flatten(1, 3)
    return AnchorScores(at_least_float32(logits), at_least_float32(deltas))
