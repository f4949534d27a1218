"""The head that looks at each region: RoI pooling, a body, two sibling layers (Fast R-CNN §2).

The body is conv5_x in a C4 network (ResNet paper, appendix A: `RoIHead`), and fully connected layers in others (FPN
paper §4.2: `FullyConnectedHead`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.model.blocks import NormKind
from detector.model.fpn import NormedConv, xavier
from detector.model.global_context import ContextLayers
from detector.model.half_precision import at_least_float32
from detector.model.roi_pooling import RoIPooling
from detector.structures import Features


class AveragePool(nn.Module):
    """The mean of a map over its cells: [R, C, S, S] to [R, C]."""

    def forward(self, maps: Tensor) -> Tensor:
        """Average [R, C, S, S] over its cells, to [R, C]."""
        return maps.mean(dim=(2, 3))


class SiblingLayers(NamedTuple):
    """What the head ends in. cls_score: K+1 class logits, row 0 the background. bbox_pred: 4 deltas of each class."""

    cls_score: nn.Linear
    bbox_pred: nn.Linear


def sibling_layers(channels: int, num_classes: int) -> SiblingLayers:
    """Fresh layers on vectors of `channels` for K = `num_classes`: zero-mean Gaussians (Fast R-CNN §2.3), biases 0."""
    layers = SiblingLayers(nn.Linear(channels, num_classes + 1), nn.Linear(channels, num_classes * 4))
    for layer, deviation in zip(layers, (0.01, 0.001), strict=True):
        nn.init.normal_(layer.weight, std=deviation)
        nn.init.zeros_(layer.bias)
    return layers


class BaseHead(nn.Module):
    """What all heads share: the two sibling layers, and the way to them."""

    cls_score: nn.Linear
    bbox_pred: nn.Linear
    context: ContextLayers | None

    def forward(self, features: Features, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Score and refine RoIs.

        Args:
            features: of N images.
            boxes: N tensors [P_i, 4] xyxy, absolute pixels of the input image.

        Returns:
            Class logits [R, K+1], column 0 the background, and deltas [R, K, 4], row l−1 for label l; both float32 or
            better, the RoIs of the first image first.
        """
        return self.predict(self.vectors(features, boxes))

    def vectors(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """What the sibling layers see of every RoI: [R, C']; features and boxes as for `forward`."""
        raise NotImplementedError

    @property
    def has_context(self) -> bool:
        """Whether `predict` takes vectors joined with those of their whole pictures (`global_context.join_context`)."""
        return self.context is not None

    def predict(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The two sibling layers: vectors [R, C'], with context [R, 2·C'], to logits [R, K+1] and deltas [R, K, 4]."""
        if self.context is None:
            logits, deltas = at_least_float32(self.cls_score(vectors)), at_least_float32(self.bbox_pred(vectors))
        else:
            own, whole = vectors.chunk(2, dim=1)
            logits = at_least_float32(self.cls_score(own)) + at_least_float32(self.context.cls_score(whole))
            deltas = at_least_float32(self.bbox_pred(own)) + at_least_float32(self.context.bbox_pred(whole))
        return logits, torch.unflatten(deltas, 1, (-1, 4))  # unlike view(), this knows K when there are no RoIs


class RoIHead(BaseHead):
    """Pool every RoI, classify it, and refine its box for each class.

    Args:
        pooling: RoIs to maps [R, C, 14, 14].
        body: these maps to vectors [R, C']: conv5_x and the average over its cells, C' = 2048 for ResNet-50 and deeper.
            The attribute is called `conv5_x`, as in weights files.
        predictor: vectors to class logits and deltas.
        context: what the whole picture's vector adds to these, or None (`global_context.py`).
    """

    def __init__(
        self,
        pooling: RoIPooling,
        body: nn.Sequential,
        predictor: SiblingLayers,
        context: ContextLayers | None = None,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.conv5_x = body
        self.cls_score, self.bbox_pred = predictor
        self.context = context

    def vectors(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """What the sibling layers see of every RoI: [R, C']; features and boxes as for `forward`."""
        vectors: Tensor = self.conv5_x(self.pooling(features, boxes))
        return vectors


class RoILayers(nn.Module):
    """3×3 convolutions, where there are any, then fully connected layers, each with a ReLU (FPN paper §4.2).

    Args:
        in_channels, size: C and S of the pooled maps.
        conv_layers, conv_channels, conv_norm: of the convolutions; with a norm they have no bias.
        fc_layers, fc_channels: of the fully connected layers.
    """

    def __init__(
        self,
        in_channels: int,
        size: int,
        conv_layers: int = 0,
        conv_channels: int = 256,
        conv_norm: NormKind | None = None,
        fc_layers: int = 2,
        fc_channels: int = 1024,
    ) -> None:
        super().__init__()
        maps = [in_channels, *[conv_channels] * conv_layers]
        self.convs = nn.ModuleList(NormedConv(c, conv_channels, 3, conv_norm) for c in maps[:-1])
        vectors = [maps[-1] * size**2, *[fc_channels] * fc_layers]
        self.fcs = nn.ModuleList(nn.Linear(c, fc_channels) for c in vectors[:-1])
        for layer in self.fcs:
            assert isinstance(layer, nn.Linear)
            xavier(layer)
        self.out_channels = vectors[-1]

    def forward(self, maps: Tensor) -> Tensor:
        """Pooled maps [R, C, S, S] to vectors [R, C']; maps are flattened channel by channel."""
        for conv in self.convs:
            maps = F.relu(conv(maps))
        vectors = maps.flatten(1)
        for layer in self.fcs:
            vectors = F.relu(layer(vectors))
        return vectors


class FullyConnectedHead(BaseHead):
    """Pool every RoI, classify it, and refine its box for each class, without a part of the ResNet.

    Args:
        pooling: RoIs to maps [R, C, 7, 7].
        layers: these maps to vectors [R, C'].
        predictor, context: as of `RoIHead`.
    """

    def __init__(
        self,
        pooling: RoIPooling,
        layers: RoILayers,
        predictor: SiblingLayers,
        context: ContextLayers | None = None,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.layers = layers
        self.cls_score, self.bbox_pred = predictor
        self.context = context

    def vectors(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """What the sibling layers see of every RoI: [R, C']; features and boxes as for `forward`."""
        vectors: Tensor = self.layers(self.pooling(features, boxes))
        return vectors
