"""The parts of a network that trains, fast. Twins of those in `detector.model`, on the same parameters, with gradient.

How it works: fixed batch norms are folded into the convolutions before them as the step goes, so that no copy of a
parameter is ever held. Everything is channels-last; on a GPU a residual block is one function. Frozen stages keep
nothing for a backward pass. The 1×1 convolutions that open conv5_x run before RoIAlign (`roi_head.py` says why they
commute). The region proposal network runs backwards only where anchors were sampled. Losses and gradients are those of
the plain parts to float rounding.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.fast.choose_on_gpu import ON_OTHERS, cudnn_fuses, pooling_way, pools_levels_by_kernel
from detector.fast.fold_together import Folds, stages_of
from detector.fast.fuse import PlainBackbone, PlainHead, plain_parts
from detector.fast.fused_gradient import run_rest
from detector.fast.proposals import sent
from detector.fast.roi_align import order_by_size, pool_aligned
from detector.fast.roi_levels import pool_levels
from detector.fast.training_blocks import conv_norm, finish, linear, run_block, run_normed, run_opening, run_stage
from detector.fast.winograd_gradient import conv2d
from detector.model import fpn, resnet, roi_head, rpn
from detector.model.blocks import Bottleneck, Projection
from detector.model.faster_rcnn import FasterRCNN
from detector.model.half_precision import at_least_float32
from detector.model.proposals import ProposalSettings
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
    folds = Folds(stages_of(model), cudnn_fuses) if model.device.type == "cuda" else None
    return FasterRCNN(
        normalize=model.normalize,
        backbone=_fast_backbone(backbone, folds) if fast else backbone,
        anchors=model.anchors,
        rpn=RPNHead(region_proposals) if fast else region_proposals,
        roi_head=_fast_head(head, folds) if fast else head,
        proposal_settings=proposals,
        detection_settings=model.detection_settings,
    )


def _fast_backbone(backbone: PlainBackbone, folds: Folds | None) -> "ResNetC4 | ResNetC5 | FPN":
    if isinstance(backbone, fpn.FPN):
        return FPN(backbone, folds)
    return ResNetC4(backbone, folds) if isinstance(backbone, resnet.ResNetC4) else ResNetC5(backbone, folds)


def _fast_head(head: PlainHead, folds: Folds | None) -> "RoIHead | FullyConnectedHead":
    return RoIHead(head, folds) if isinstance(head, roi_head.RoIHead) else FullyConnectedHead(head)


class ResNetC4(nn.Module):
    """conv1 … conv4_x. backbone: whose parameters are trained. folds: of the network, where they are made together."""

    def __init__(self, backbone: resnet.ResNetC4, folds: Folds | None = None) -> None:
        super().__init__()
        self.plain = backbone
        self.folds = folds

    def forward(self, pixels: Tensor) -> Features:
        """Network input [N, 3, H, W] to one map [N, C, H', W'], channels-last."""
        backbone = self.plain
        x = run_opening(backbone, pixels, self.folds)
        for number, stage in enumerate((backbone.conv2_x, backbone.conv3_x, backbone.conv4_x), start=2):
            x = run_stage(stage, x, backbone.freeze_stages >= number, self.folds)
        return (FeatureMap(x, backbone.stride),)


class ResNetC5(nn.Module):
    """conv1 … conv5_x. backbone, folds: as for `ResNetC4`."""

    def __init__(self, backbone: resnet.ResNetC5, folds: Folds | None = None) -> None:
        super().__init__()
        self.plain = backbone
        self.folds = folds

    def forward(self, pixels: Tensor) -> Features:
        """Network input [N, 3, H, W] to the maps of the stages that are wanted, channels-last."""
        backbone = self.plain
        x, maps = run_opening(backbone, pixels, self.folds), []
        for number, stage in backbone.numbered_stages():
            x = run_stage(stage, x, backbone.freeze_stages >= number, self.folds)
            if number in backbone.stages:
                maps.append(FeatureMap(x, backbone.strides[number]))
        return tuple(maps)


class FPN(nn.Module):
    """A ResNet and its pyramid. backbone, folds: as for `ResNetC4`."""

    def __init__(self, backbone: fpn.FPN, folds: Folds | None = None) -> None:
        super().__init__()
        self.plain = backbone
        self.body = ResNetC5(backbone.body, folds)

    def forward(self, pixels: Tensor) -> Features:
        """Network input [N, 3, H, W] to five maps of strides 4 to 64, channels-last."""
        merged, levels = None, []
        lateral, output = reversed(self.plain.lateral), reversed(self.plain.output)
        for (values, stride), to_level, finish_level in zip(reversed(self.body(pixels)), lateral, output, strict=True):
            merged = fpn.add_doubled(run_normed(to_level, values), merged)
            levels.append(FeatureMap(run_normed(finish_level, merged), stride))
        return (*reversed(levels), fpn.subsampled(levels[0]))


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
        return [self.plain.predict(self._hidden(values)) for values, _ in features]

    def _hidden(self, values: Tensor) -> Tensor:
        for conv in self.plain.convs():
            values = F.relu_(conv2d(values, conv.weight, conv.bias, 1, 1))
        return values

    def at(self, features: Features, chosen: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [S] and deltas [S, 4] of the anchors with the numbers in N tensors, map after map.

        Of several 3×3 convolutions a sampled anchor sees more cells than are worth taking out: all anchors are scored.
        """
        if len(self.plain.more_convs) > 0:
            return rpn.take_anchors(self(features), chosen)
        per_cell = self.plain.objectness.out_channels
        image = torch.cat([torch.full_like(index, i) for i, index in enumerate(chosen)])
        anchor = torch.cat(list(chosen))
        places = _window_places(features, image, anchor // per_cell)
        padded = [F.pad(m.values, (1, 1, 1, 1)).permute(0, 2, 3, 1).flatten(0, 2) for m in features]
        windows = F.embedding(places, padded[0] if len(padded) == 1 else torch.cat(padded)).flatten(1)
        # A window gives one cell, so this is a matrix product: backwards, as a convolution, it takes ten times as long.
        conv = self.plain.conv
        hidden = F.relu_(F.linear(windows, conv.weight.permute(0, 2, 3, 1).flatten(1), conv.bias))[:, :, None, None]
        logits, deltas = self.plain.predict(hidden)
        which = torch.arange(anchor.shape[0], device=anchor.device), anchor % per_cell
        return logits[which], deltas[which]


def _window_places(features: Features, image: Tensor, cell: Tensor) -> Tensor:
    """Where the 3×3 cells around some cells lie among those of all maps, each padded by a cell, one after the other.

    Args:
        features: maps of N images.
        image: [S] int64, of which image.
        cell: [S] int64, numbered row by row and map by map.

    Returns:
        [S, 9] int64, row by row.
    """
    rows, before, cells = [], 0, 0  # padded cells of the maps before, and cells of one image
    for values, _ in features:
        count, _, height, width = values.shape
        rows.append([before, (height + 2) * (width + 2), width + 2, cells])
        before, cells = before + count * (height + 2) * (width + 2), cells + height * width
    of_map: Sequence[int] | Sequence[Tensor] = rows[0]
    if len(rows) > 1:
        table = sent(torch.tensor(rows), cell.device)
        of_map = table[torch.bucketize(cell, table[:, 3].contiguous(), right=True) - 1].unbind(dim=1)
    start, size, line, first = of_map
    inside, columns = cell - first, line - 2
    corner = start + image * size + inside // columns * line + inside % columns  # of the window, in the padded map
    lines = torch.stack((corner, corner + line, corner + 2 * line), dim=1)
    return (lines[..., None] + torch.arange(3, device=cell.device)).flatten(1)


class BaseHead(nn.Module):
    """What all heads share: the sibling layers are the plain head's."""

    plain: roi_head.BaseHead

    def forward(self, features: Features, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Class logits [R, K+1] and deltas [R, K, 4] of N tensors of RoIs [P_i, 4], pixels of the input image."""
        return self.predict(self.vectors(features, boxes))

    @property
    def has_context(self) -> bool:
        """As of the plain head."""
        return self.plain.has_context

    def predict(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The two sibling layers, as the plain head's."""
        return self.plain.predict(vectors)

    def vectors(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """What the sibling layers see of every RoI: [R, C']; features and boxes as for `forward`."""
        raise NotImplementedError


class FullyConnectedHead(BaseHead):
    """RoI pooling, fully connected layers and the two sibling layers. head: whose parameters are trained."""

    plain: roi_head.FullyConnectedHead

    def __init__(self, head: roi_head.FullyConnectedHead) -> None:
        super().__init__()
        self.plain = head

    def vectors(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """What the sibling layers see of every RoI: [R, C']; features and boxes as for `forward`."""
        rois, layers = indexed_rois(boxes), self.plain.layers
        if self.plain.pooling.kind == "pool" or rois.shape[0] == 0:
            return self.plain.vectors(features, boxes)
        pooling, dtype = self.plain.pooling, features[0].values.dtype
        kernel = pools_levels_by_kernel(pooling, rois.device, dtype, gradient=torch.is_grad_enabled())
        maps = pool_levels(features, rois, pooling, kernel).to(dtype)
        for conv in layers.convs:
            maps = F.relu_(run_normed(conv, maps))
        vectors = maps.flatten(1)
        for layer in layers.fcs:
            vectors = F.relu_(layer(vectors))
        return vectors


class RoIHead(BaseHead):
    """RoI pooling, conv5_x and the two sibling layers. head: whose parameters are trained. folds: as in `ResNetC4`."""

    plain: roi_head.RoIHead

    def __init__(self, head: roi_head.RoIHead, folds: Folds | None = None) -> None:
        super().__init__()
        self.plain = head
        self.folds = folds

    def vectors(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """What the sibling layers see of every RoI: [R, C']; features and boxes as for `forward`."""
        pooling = self.plain.pooling
        (feature_map,) = features
        rois = indexed_rois(boxes)
        if pooling.kind == "pool" or rois.shape[0] == 0:
            return self.plain.vectors(features, boxes)
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
            x = run_block(first, pooled.to(values.dtype), self.folds)
        for block in others:
            x = run_block(block, x, self.folds)
        vectors: Tensor = average(x)
        return vectors if order is None else vectors[order.argsort()]

    def _hoisted(self, block: Bottleneck, features: FeatureMap, rois: Tensor, kernel: bool) -> Tensor:
        """The first block of conv5_x on RoIs [R, 5], its first convolution and its shortcut before RoIAlign."""
        assert isinstance(block.shortcut, Projection)
        opening = [(block.conv1, block.norm1), (block.shortcut.conv, block.shortcut.norm)]
        folded = [None if self.folds is None else self.folds.take(conv) for conv, _ in opening]
        maps = [linear(*pair, features.values, fold) for pair, fold in zip(opening, folded, strict=True)]
        maps = maps if kernel else [at_least_float32(m) for m in maps]
        steps = [conv.stride[0] for conv, _ in opening]
        rois = rois.to(torch.promote_types(maps[0].dtype, torch.float32))
        pooled_maps = [FeatureMap(m, features.stride) for m in maps]
        reduce, project = folded
        if kernel and reduce is not None and project is not None and self.folds is not None:
            # The kernel adds the offset and applies the ReLU before it writes what it has pooled.
            pooling = self.plain.pooling
            (reduced,) = pool_aligned(pooled_maps[:1], rois, pooling, steps[:1], kernel, reduce.offset)
            (shortcut,) = pool_aligned(pooled_maps[1:], rois, pooling, steps[1:], kernel)
            fused = run_rest(block, reduced, shortcut, project, self.folds)
            if fused is not None:
                return fused
            shortcut = shortcut + project.bias.view(-1, 1, 1)
        else:
            pooled = pool_aligned(pooled_maps, rois, self.plain.pooling, steps, kernel)
            reduced = finish(block.norm1, pooled[0], reduce, relu=True)
            shortcut = finish(block.shortcut.norm, pooled[1], project)
        out = conv_norm(block.conv2, block.norm2, reduced, self.folds, relu=True)
        out = block.shrink(conv_norm(block.conv3, block.norm3, out, self.folds))
        out += shortcut
        return F.relu_(out)
