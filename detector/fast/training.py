"""The network that trains, fast, and its backbones: twins of `detector.model`'s parts, on the same parameters.

How it works: fixed batch norms are folded into the convolutions before them as the step goes, so that no copy of a
parameter is ever held. Everything is channels-last; on a GPU a residual block is one function. Frozen stages keep
nothing for a backward pass. `training_rpn.py` runs the region proposal network backwards only where anchors were
sampled, `training_heads.py` the 1×1 convolutions that open conv5_x before RoIAlign. Losses and gradients are those of
the plain parts to float rounding.
"""

from torch import Tensor, nn

from detector.fast.choose_on_gpu import cudnn_fuses
from detector.fast.fold_together import Folds, stages_of
from detector.fast.fuse import PlainBackbone, plain_parts
from detector.fast.roi_head import PlainHead
from detector.fast.training_blocks import run_normed, run_opening, run_stage
from detector.fast.training_heads import FullyConnectedHead, RoIHead
from detector.fast.training_rpn import RPNHead
from detector.model import fpn, resnet, roi_head
from detector.model.faster_rcnn import FasterRCNN
from detector.model.proposals import ProposalSettings
from detector.structures import FeatureMap, Features


def training_network(model: FasterRCNN, proposals: ProposalSettings, fast: bool) -> FasterRCNN:
    """The network that a training step runs. It shares every parameter, and its device, with `model`.

    Args:
        model: as `build_model` makes it.
        proposals: how many proposals a training image gives.
        fast: from the parts of this folder; else from the model's own.

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


def _fast_head(head: PlainHead, folds: Folds | None) -> RoIHead | FullyConnectedHead:
    return RoIHead(head, folds) if isinstance(head, roi_head.RoIHead) else FullyConnectedHead(head)


class ResNetC4(nn.Module):
    """conv1 … conv4_x of a network that trains.

    Args:
        backbone: whose parameters are trained.
        folds: convolutions whose norms are folded together once a step, on a GPU; None: each where it runs.
    """

    def __init__(self, backbone: resnet.ResNetC4, folds: Folds | None = None) -> None:
        super().__init__()
        self.plain = backbone
        self.folds = folds

    def forward(self, pixels: Tensor) -> Features:
        """Network input [N, 3, H, W] to one map [N, C, H', W'], channels-last."""
        backbone = self.plain
        x = run_opening(backbone, pixels, self.folds)
        for number, stage in backbone.numbered_stages():
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
