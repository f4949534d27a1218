"""Faster R-CNN: the whole network on one page, in the order in which a picture passes through it."""

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from detector.model.anchors import AnchorGenerator
from detector.model.global_context import join_context
from detector.model.normalize import PixelNormalization
from detector.model.postprocess import DetectionSettings, decode_scores, select_detections
from detector.model.proposals import ProposalSettings, select_proposals
from detector.model.refinement import refine
from detector.model.rpn import AnchorScores
from detector.structures import Features, ImageBatch, Proposals, Selection, Size


class Backbone(Protocol):
    """`resnet.ResNetC4`, `resnet.ResNetC5`, `fpn.FPN`, and their twins in `detector.fast`."""

    def __call__(self, pixels: Tensor) -> Features:
        """Network input [N, 3, H, W] to feature maps, the finest first."""


class RPN(Protocol):
    """`rpn.RPNHead`, and its twins in `detector.fast`."""

    def __call__(self, features: Features) -> list[AnchorScores]:
        """Objectness and deltas of every anchor of each feature map."""

    def at(self, features: Features, chosen: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [S] and deltas [S, 4] of S anchors picked for the losses; `chosen`: N tensors of their numbers."""


class Head(Protocol):
    """`roi_head.RoIHead`, `roi_head.FullyConnectedHead`, and their twins in `detector.fast`."""

    @property
    def has_context(self) -> bool:
        """Whether `predict` wants vectors that are joined with those of their whole pictures (`global_context.py`)."""

    def __call__(self, features: Features, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Class logits [R, K+1] and deltas [R, K, 4] of the regions in N tensors [P_i, 4]: `predict` of `vectors`."""

    def vectors(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """What the sibling layers see of each region: [R, C']."""

    def predict(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The sibling layers: [R, C'] to class logits and deltas."""


class FasterRCNN(nn.Module):
    """Pictures in, detections out (Faster R-CNN, figure 2; ResNet paper, appendix A).

    Four stages, each with the files that hold it:

        features   normalize.py, resnet.py       pixels to feature maps: C4 and DC5 have one, of stride 16; FPN has
                   (blocks.py), fpn.py           five, of strides 4 to 64
        propose    rpn.py, anchors.py,           objectness and deltas of every anchor; the best are decoded, and NMS
                   proposals.py                  thins them out
        score      roi_head.py, roi_pooling.py   every region to class scores and to a box for each class
        select     postprocess.py                score threshold, NMS within each class, the best of all classes

    Settings can make the head look again at its own boxes before the last stage (`refinement.py`), and merge boxes that
    overlap by another rule than NMS (`soft_nms.py`, `box_averages.py`).

    Training compares what the parts compute with the targets of `training/targets.py` (`matcher.py`, `sampler.py`), by
    the losses of `training/losses.py`. How a box is written as (t_x, t_y, t_w, t_h) is in `boxes.py`. Every number is a
    setting of `config/network.py` or `config/detection.py`, from which `detector.model.build` assembles the network.
    Boxes are xyxy in pixels of the input image throughout; letters are those of `detector.structures`.

    Each part has a quicker twin with the same inputs and outputs: `detector.fast.fuse` assembles the twins for
    detection, with copies of the parameters; `detector.fast.training` those for training, with the parameters
    themselves.

    Args:
        normalize: pixels to network input.
        backbone: network input to feature maps.
        anchors: the boxes that the region proposal network scores.
        rpn: objectness and deltas for every anchor.
        roi_head: class logits and deltas for every region.
        proposal_settings: which anchors become proposals.
        detection_settings: which scored boxes become detections.
    """

    def __init__(
        self,
        normalize: PixelNormalization,
        backbone: Backbone,
        anchors: AnchorGenerator,
        rpn: RPN,
        roi_head: Head,
        proposal_settings: ProposalSettings,
        detection_settings: DetectionSettings,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.backbone = backbone
        self.anchors = anchors
        self.rpn = rpn
        self.roi_head = roi_head
        self.proposal_settings = proposal_settings
        self.detection_settings = detection_settings

    @property
    def device(self) -> torch.device:
        """The device that the network is on."""
        return self.normalize.mean.device

    def forward(self, images: ImageBatch) -> Sequence[Selection]:
        """Detect objects: N `Selection`s, in the frame of the input images."""
        features = self.features(images)
        proposals = self.propose(features, images.sizes)
        scores, boxes = self.score(features, [p.boxes for p in proposals], images.sizes)
        settings = self.detection_settings
        if settings.refine_passes:
            score = partial(self.score, features, sizes=images.sizes)
            scores, boxes = refine(
                score, scores, boxes, images.sizes, settings.refine_passes, settings.refine_keeps_all
            )
        return self.select(scores, boxes, images.sizes, images.original_sizes)

    def features(self, images: ImageBatch) -> Features:
        """What the backbone computes from N pictures: one map or several, each [N, C, H', W'] with its stride."""
        return self.backbone(self.normalize(images))

    @torch.no_grad()
    def propose(self, features: Features, sizes: Sequence[Size]) -> list[Proposals]:
        """Regions that may hold an object: N `Proposals`, the most promising first.

        No gradient flows through them: joint training is approximate (§3.2).

        Args:
            features: of N pictures.
            sizes: of the N input images without padding; proposals are clipped to them.
        """
        scored, anchors = self.rpn(features), self.anchors(features)
        return [
            select_proposals(
                [(logits[i], deltas[i]) for logits, deltas in scored], anchors, size, self.proposal_settings
            )
            for i, size in enumerate(sizes)
        ]

    def head_outputs(
        self, features: Features, boxes: Sequence[Tensor], sizes: Sequence[Size] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Class logits [R, K+1] and deltas [R, K, 4] of any regions; the arguments are those of `score`."""
        if not self.roi_head.has_context:
            return self.roi_head(features, boxes)
        assert sizes is not None, "a head with global context must be told the pictures' sizes"
        return self.roi_head.predict(join_context(self.roi_head.vectors, features, boxes, sizes))

    def score(
        self, features: Features, boxes: Sequence[Tensor], sizes: Sequence[Size] | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Class scores and regressed boxes of any regions, wherever they come from.

        Args:
            features: of N pictures.
            boxes: N tensors [P_i, 4] float32 xyxy, pixels of the input image.
            sizes: of the N input images without padding. Only a head with global context needs them.

        Returns:
            N tensors of class scores [P_i, K+1] in [0, 1], column 0 the background, and N of boxes [P_i, K, 4] xyxy,
            one for each class, pixels of the input image, not clipped. Where the network gave an infinite or NaN number
            for a region, all of that region's scores and boxes are NaN, so that `select` drops it.
        """
        return self.decode(*self.head_outputs(features, boxes, sizes), boxes)

    def decode(self, logits: Tensor, deltas: Tensor, boxes: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """What `score` returns for regions whose head outputs are known.

        Args:
            logits, deltas: [R, K+1] and [R, K, 4], as `head_outputs` returns them.
            boxes: the regions, N tensors [P_i, 4] xyxy of any one frame; the boxes returned are of the same.
        """
        settings = self.detection_settings
        scores, refined = decode_scores(
            logits, deltas, torch.cat(list(boxes)), settings.delta_weights, settings.limit_shrinking
        )
        counts = [b.shape[0] for b in boxes]
        return list(torch.split(scores, counts)), list(torch.split(refined, counts))

    def select(
        self,
        scores: Sequence[Tensor],
        boxes: Sequence[Tensor],
        sizes: Sequence[Size],
        original_sizes: Sequence[Size] | None = None,
    ) -> list[Selection]:
        """The detections among scored boxes: N `Selection`s, in the frame of the input images, the best first.

        Args:
            scores, boxes: as `score` returns them.
            sizes: of the N input images without padding; detections are clipped to them.
            original_sizes: of the N original images; some lineages measure overlaps in their pixels. None: as `sizes`.
        """
        return [
            select_detections(s, b, size, self.detection_settings, original)
            for s, b, size, original in zip(scores, boxes, sizes, original_sizes or sizes, strict=True)
        ]
