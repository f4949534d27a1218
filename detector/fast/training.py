"""How a training step runs the network: as it is defined, or fast.

Both give the same numbers and the same gradients to float rounding. The fast way folds fixed batch norms into the
convolutions before them as it goes (so it never holds a copy of a parameter), runs channels-last, takes the 1×1
convolutions that open conv5_x before RoIAlign (`detector.fast.roi_head` says why they commute), keeps no
gradient of frozen stages, and runs the RPN backwards only where anchors were sampled.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.fast.backbone import convolutions
from detector.fast.folding import fixed_affine
from detector.fast.roi_align import order_by_size, pool_aligned
from detector.fast.winograd_gradient import conv2d
from detector.model.faster_rcnn import FasterRCNN
from detector.model.precision import at_least_float32
from detector.model.resnet import BasicBlock, Bottleneck, Projection, ResNetC4
from detector.model.roi_pooling import indexed_rois
from detector.structures import ImageBatch


class RPNOutputs(Protocol):
    """Objectness and deltas of every anchor of N images.

    logits: [N, H'·W'·A], deltas: [N, H'·W'·A, 4], both float32 or better; for proposals, so without gradient.
    """

    logits: Tensor
    deltas: Tensor

    def at(self, chosen: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [S] and deltas [S, 4] with gradient; N tensors of indices into each image's anchors, together S."""


class Forward(Protocol):
    """The network in the three parts between which a training step has work of its own."""

    def features(self, images: ImageBatch) -> Tensor:
        """conv4_x of the pictures, [N, C, H', W']."""

    def rpn(self, features: Tensor) -> RPNOutputs:
        """Score and refine every anchor."""

    def roi_head(self, features: Tensor, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Class logits [R, K+1] and deltas [R, K, 4] of N tensors of RoIs [P_i, 4], pixels of the input image."""


class ReadableForward:
    """The network as it is defined."""

    def __init__(self, model: FasterRCNN) -> None:
        self.model = model

    def features(self, images: ImageBatch) -> Tensor:
        """As `Forward` says."""
        return self.model.backbone(self.model.normalize(images))

    def rpn(self, features: Tensor) -> "DenseRPNOutputs":
        """As `Forward` says."""
        return DenseRPNOutputs(*self.model.rpn(features))

    def roi_head(self, features: Tensor, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """As `Forward` says."""
        return self.model.roi_head(self.model.roi_pooling(features, boxes))


class DenseRPNOutputs:
    """All anchors with gradient, of which the sampled ones are taken."""

    def __init__(self, logits: Tensor, deltas: Tensor) -> None:
        self.logits, self.deltas = logits.detach(), deltas.detach()
        self._logits, self._deltas = logits, deltas

    def at(self, chosen: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """As `RPNOutputs` says."""
        logits = torch.cat([self._logits[i, index] for i, index in enumerate(chosen)])
        return logits, torch.cat([self._deltas[i, index] for i, index in enumerate(chosen)])


class FastForward:
    """The same network, executed for speed."""

    def __init__(self, model: FasterRCNN) -> None:
        self.model = model

    def features(self, images: ImageBatch) -> Tensor:
        """As `Forward` says; channels-last."""
        backbone = self.model.backbone
        pixels = self.model.normalize(images).contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(torch.is_grad_enabled() and backbone.freeze_stages < 1):
            x = backbone.max_pool(F.relu_(conv_norm(backbone.conv1, backbone.norm1, pixels)))
        for number, stage in enumerate(stages(backbone), start=2):
            with torch.set_grad_enabled(torch.is_grad_enabled() and backbone.freeze_stages < number):
                for block in stage:
                    x = run_block(block, x)
        return x

    def rpn(self, features: Tensor) -> "SparseRPNOutputs":
        """As `Forward` says."""
        return SparseRPNOutputs(self.model, features)

    def roi_head(self, features: Tensor, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """As `Forward` says."""
        pooling, head = self.model.roi_pooling, self.model.roi_head
        assert isinstance(head.conv5_x, nn.Sequential)
        first = head.conv5_x[0]
        rois = indexed_rois(boxes)
        if pooling.kind == "pool" or rois.shape[0] == 0:
            return head(pooling(features, boxes))
        order = order_by_size(rois, pooling)
        rois = rois[order]
        if isinstance(first, Bottleneck):
            x = self._hoisted(first, features, rois)
        else:
            maps = at_least_float32(features)
            (pooled,) = pool_aligned([maps], rois.to(maps.dtype), pooling, [1])
            x = run_block(first, pooled.to(features.dtype))
        for block in head.conv5_x[1:]:
            x = run_block(block, x)
        vectors = x.mean(dim=(2, 3))
        return head.predict(vectors[order.argsort()])

    def _hoisted(self, block: Bottleneck, features: Tensor, rois: Tensor) -> Tensor:
        """The first block of conv5_x on RoIs [R, 5], its first convolution and its shortcut before RoIAlign."""
        assert isinstance(block.shortcut, Projection)
        opening = [(block.conv1, block.norm1), (block.shortcut.conv, block.shortcut.norm)]
        maps = [at_least_float32(linear(conv, norm, features)) for conv, norm in opening]
        steps = [conv.stride[0] for conv, _ in opening]
        pooled = pool_aligned(maps, rois.to(maps[0].dtype), self.model.roi_pooling, steps)
        reduced, shortcut = (finish(norm, x) for (_, norm), x in zip(opening, pooled, strict=True))
        out = F.relu_(conv_norm(block.conv2, block.norm2, F.relu_(reduced)))
        out = conv_norm(block.conv3, block.norm3, out)
        out += shortcut
        return F.relu_(out)


class SparseRPNOutputs:
    """Every anchor without gradient, and those that are asked for once more with it.

    A sampled anchor sees 3×3 cells. Taken out of the map these are small maps of their own, on which the same layers
    give the same numbers; so the other anchors, of which the losses never hear, cost nothing backwards.
    """

    def __init__(self, model: FasterRCNN, features: Tensor) -> None:
        self._rpn, self._anchors_per_cell, self._features = model.rpn, model.anchors.per_cell, features
        conv = model.rpn.conv
        with torch.no_grad():
            self.logits, self.deltas = model.rpn.predict(F.relu_(conv2d(features, conv.weight, conv.bias, 1, 1)))

    def at(self, chosen: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """As `RPNOutputs` says."""
        _, channels, height, width = self._features.shape
        image = torch.cat([torch.full_like(index, i) for i, index in enumerate(chosen)])
        anchor = torch.cat(list(chosen))
        cell = anchor // self._anchors_per_cell
        row, column = cell // width, cell % width  # of the window's first cell, in the padded map
        first = (image * (height + 2) + row) * (width + 2) + column
        step = torch.arange(3, device=first.device)
        window = (step[:, None] * (width + 2) + step).flatten()
        padded = F.pad(self._features, (1, 1, 1, 1)).permute(0, 2, 3, 1).reshape(-1, channels)
        windows = F.embedding(first[:, None] + window, padded).flatten(1)
        # A window gives one cell, so this is a matrix product: backwards, as a convolution, it takes ten times as long.
        conv = self._rpn.conv
        hidden = F.relu_(F.linear(windows, conv.weight.permute(0, 2, 3, 1).flatten(1), conv.bias))[:, :, None, None]
        logits, deltas = self._rpn.predict(hidden)
        which = torch.arange(anchor.shape[0], device=anchor.device), anchor % self._anchors_per_cell
        return logits[which], deltas[which]


def stages(backbone: ResNetC4) -> list[nn.Sequential]:
    """conv2_x, conv3_x, conv4_x."""
    return [backbone.conv2_x, backbone.conv3_x, backbone.conv4_x]


def run_block(block: nn.Module, x: Tensor) -> Tensor:
    """A residual block."""
    assert isinstance(block, BasicBlock | Bottleneck)
    out = x
    *opening, (last_conv, last_norm) = convolutions(block)
    for conv, norm in opening:
        out = F.relu_(conv_norm(conv, norm, out))
    out = conv_norm(last_conv, last_norm, out)
    if isinstance(block.shortcut, Projection):
        out += conv_norm(block.shortcut.conv, block.shortcut.norm, x)
    else:
        out += x
    return F.relu_(out)


def conv_norm(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """A convolution without bias and the norm after it, in one where the norm is a fixed affine map."""
    affine = fixed_affine(norm)
    stride, padding = conv.stride[0], int(conv.padding[0])
    if affine is None:
        return norm(conv2d(x, conv.weight, None, stride, padding))
    scale, offset = affine
    return conv2d(x, conv.weight * scale.view(-1, 1, 1, 1), offset, stride, padding)


def linear(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """A 1×1 convolution at stride 1 with the factors of its norm, without offset: what commutes with RoIAlign."""
    affine = fixed_affine(norm)
    return F.conv2d(x, conv.weight if affine is None else conv.weight * affine[0].view(-1, 1, 1, 1))


def finish(norm: nn.Module, x: Tensor) -> Tensor:
    """What `linear` leaves to do."""
    affine = fixed_affine(norm)
    # Not in place: pooled maps are views, and autograd copies the gradient of a changed view whole.
    return norm(x) if affine is None else x + affine[1].view(-1, 1, 1)
