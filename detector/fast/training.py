"""The parts of a network that trains, fast. Twins of those in `detector.model`, on the same parameters, with gradient.

How it works: fixed batch norms are folded into the convolutions before them as the step goes, so that no copy of a
parameter is ever held. Everything is channels-last. Frozen stages keep nothing for a backward pass. The 1×1
convolutions that open conv5_x run before RoIAlign (`roi_head.py` says why they commute). The region proposal network
runs backwards only where anchors were sampled. Losses and gradients are those of the plain parts to float rounding.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.fast.backbone import convolutions
from detector.fast.choose_on_gpu import ON_OTHERS, pooling_way
from detector.fast.folding import fixed_affine
from detector.fast.fuse import plain_parts
from detector.fast.roi_align import order_by_size, pool_aligned
from detector.fast.winograd_gradient import conv2d
from detector.model import resnet, roi_head, rpn
from detector.model.faster_rcnn import FasterRCNN
from detector.model.half_precision import at_least_float32
from detector.model.proposals import ProposalSettings
from detector.model.resnet import BasicBlock, Bottleneck, Projection
from detector.model.roi_pooling import indexed_rois
from detector.model.rpn import AnchorScores
from detector.structures import FeatureMap, Features


def training_network(model: FasterRCNN, proposals: ProposalSettings, fast: bool) -> FasterRCNN:
    """The network that a training step runs. It shares every parameter, and its device, with `model`.

    Args:
        model: as `build_model` makes it.
        proposals: how many proposals a training image gives.
        fast: from the parts in this file; else from the model's own.

    Raises:
        UserError: the model is a fused one.
    """
    backbone, region_proposals, head = plain_parts(model)
    if not (fast and isinstance(backbone, resnet.ResNetC4) and isinstance(head, roi_head.RoIHead)):
        return FasterRCNN(
            model.normalize, backbone, model.anchors, region_proposals, head, proposals, model.detection_settings
        )
    return FasterRCNN(
        normalize=model.normalize,
        backbone=ResNetC4(backbone),
        anchors=model.anchors,
        rpn=RPNHead(region_proposals),
        roi_head=RoIHead(head),
        proposal_settings=proposals,
        detection_settings=model.detection_settings,
    )


class ResNetC4(nn.Module):
    """conv1 … conv4_x. backbone: whose parameters are trained."""

    def __init__(self, backbone: resnet.ResNetC4) -> None:
        super().__init__()
        self.plain = backbone

    def forward(self, pixels: Tensor) -> Features:
        """Network input [N, 3, H, W] to one map [N, C, H', W'], channels-last."""
        backbone = self.plain
        x = pixels.contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(torch.is_grad_enabled() and backbone.freeze_stages < 1):
            x = backbone.max_pool(F.relu_(conv_norm(backbone.conv1, backbone.norm1, x)))
        for number, stage in enumerate((backbone.conv2_x, backbone.conv3_x, backbone.conv4_x), start=2):
            with torch.set_grad_enabled(torch.is_grad_enabled() and backbone.freeze_stages < number):
                for block in stage:
                    x = run_block(block, x)
        return (FeatureMap(x, backbone.stride),)


class RPNHead(nn.Module):
    """Objectness and deltas of all anchors, or of the sampled ones alone. head: whose parameters are trained.

    A sampled anchor sees 3×3 cells. Taken out of the map these are small maps of their own, on which the same layers
    give the same numbers; so the other anchors, of which the losses never hear, cost nothing backwards.
    """

    def __init__(self, head: rpn.RPNHead) -> None:
        super().__init__()
        self.plain = head

    def forward(self, features: Features) -> list[AnchorScores]:
        """Score and refine every anchor of each feature map."""
        conv = self.plain.conv
        return [self.plain.predict(F.relu_(conv2d(values, conv.weight, conv.bias, 1, 1))) for values, _ in features]

    def at(self, features: Features, chosen: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [S] and deltas [S, 4] of the anchors with the numbers in N tensors, on one feature map."""
        ((values, _),) = features
        _, channels, height, width = values.shape
        per_cell = self.plain.objectness.out_channels
        image = torch.cat([torch.full_like(index, i) for i, index in enumerate(chosen)])
        anchor = torch.cat(list(chosen))
        cell = anchor // per_cell
        row, column = cell // width, cell % width  # of the window's first cell, in the padded map
        first = (image * (height + 2) + row) * (width + 2) + column
        step = torch.arange(3, device=first.device)
        window = (step[:, None] * (width + 2) + step).flatten()
        padded = F.pad(values, (1, 1, 1, 1)).permute(0, 2, 3, 1).reshape(-1, channels)
        windows = F.embedding(first[:, None] + window, padded).flatten(1)
        # A window gives one cell, so this is a matrix product: backwards, as a convolution, it takes ten times as long.
        conv = self.plain.conv
        hidden = F.relu_(F.linear(windows, conv.weight.permute(0, 2, 3, 1).flatten(1), conv.bias))[:, :, None, None]
        logits, deltas = self.plain.predict(hidden)
        which = torch.arange(anchor.shape[0], device=anchor.device), anchor % per_cell
        return logits[which], deltas[which]


class RoIHead(nn.Module):
    """RoI pooling, conv5_x and the two sibling layers. head: whose parameters are trained."""

    def __init__(self, head: roi_head.RoIHead) -> None:
        super().__init__()
        self.plain = head

    def forward(self, features: Features, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Class logits [R, K+1] and deltas [R, K, 4] of N tensors of RoIs [P_i, 4], pixels of the input image."""
        pooling = self.plain.pooling
        (feature_map,) = features
        rois = indexed_rois(boxes)
        if pooling.kind == "pool" or rois.shape[0] == 0:
            return self.plain(features, boxes)
        on_cpu = rois.device.type == "cpu"  # where equal RoIs together take less memory and time
        order = order_by_size(rois, pooling, feature_map.stride) if on_cpu else None
        rois = rois if order is None else rois[order]
        first, *others, average = self.plain.conv5_x
        way, values = ON_OTHERS, feature_map.values
        if isinstance(first, Bottleneck):
            way = pooling_way(pooling, first, rois.device, values.dtype, gradient=torch.is_grad_enabled())
        if way.hoisted:
            assert isinstance(first, Bottleneck)
            x = self._hoisted(first, feature_map, rois, way.kernel)
        else:
            maps = values if way.kernel else at_least_float32(values)
            one = [FeatureMap(maps, feature_map.stride)]
            (pooled,) = pool_aligned(
                one, rois.to(torch.promote_types(maps.dtype, torch.float32)), pooling, [1], way.kernel
            )
            x = run_block(first, pooled.to(values.dtype))
        for block in others:
            x = run_block(block, x)
        vectors = average(x)
        return self.plain.predict(vectors if order is None else vectors[order.argsort()])

    def _hoisted(self, block: Bottleneck, features: FeatureMap, rois: Tensor, kernel: bool) -> Tensor:
        """The first block of conv5_x on RoIs [R, 5], its first convolution and its shortcut before RoIAlign."""
        assert isinstance(block.shortcut, Projection)
        opening = [(block.conv1, block.norm1), (block.shortcut.conv, block.shortcut.norm)]
        maps = [linear(conv, norm, features.values) for conv, norm in opening]
        maps = maps if kernel else [at_least_float32(m) for m in maps]
        steps = [conv.stride[0] for conv, _ in opening]
        rois = rois.to(torch.promote_types(maps[0].dtype, torch.float32))
        pooled = pool_aligned([FeatureMap(m, features.stride) for m in maps], rois, self.plain.pooling, steps, kernel)
        reduced, shortcut = (finish(norm, x) for (_, norm), x in zip(opening, pooled, strict=True))
        out = F.relu_(conv_norm(block.conv2, block.norm2, F.relu_(reduced)))
        out = block.shrink(conv_norm(block.conv3, block.norm3, out))
        out += shortcut
        return F.relu_(out)


def run_block(block: nn.Module, x: Tensor) -> Tensor:
    """A residual block, [N, C, H, W] to [N, C', H', W']."""
    assert isinstance(block, BasicBlock | Bottleneck)
    out = x
    *opening, (last_conv, last_norm) = convolutions(block)
    for conv, norm in opening:
        out = F.relu_(conv_norm(conv, norm, out))
    out = block.shrink(conv_norm(last_conv, last_norm, out))
    if isinstance(block.shortcut, Projection):
        out += conv_norm(block.shortcut.conv, block.shortcut.norm, x)
    else:
        out += x
    return F.relu_(out)


def conv_norm(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """A convolution without bias and its norm, fused where the norm is fixed: [N, C, H, W] to [N, O, H', W']."""
    affine = fixed_affine(norm)
    stride, padding = conv.stride[0], int(conv.padding[0])
    if affine is None:
        return norm(conv2d(x, conv.weight, None, stride, padding))
    scale, offset = affine
    return conv2d(x, conv.weight * scale.view(-1, 1, 1, 1), offset, stride, padding)


def linear(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """A 1×1 convolution of [N, C, H, W] at stride 1 with its norm's factors alone: it commutes with RoIAlign."""
    affine = fixed_affine(norm)
    return F.conv2d(x, conv.weight if affine is None else conv.weight * affine[0].view(-1, 1, 1, 1))


def finish(norm: nn.Module, x: Tensor) -> Tensor:
    """What remains after `linear` and pooling, [R, C, S, S]: the norm's offset, or all of a norm that is not fixed."""
    affine = fixed_affine(norm)
    # Not in place: pooled maps are views, and autograd copies the gradient of a changed view whole.
    return norm(x) if affine is None else x + affine[1].view(-1, 1, 1)
