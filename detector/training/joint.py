"""Approximate joint training (Faster R-CNN §3.2): the network, its targets and its losses as one module."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detector.config import ModelConfig
from detector.fast.training import FastForward, Forward, ReadableForward, RPNOutputs
from detector.model.build import proposal_settings
from detector.model.faster_rcnn import FasterRCNN
from detector.model.proposals import ProposalSettings, select_proposals
from detector.process_group import mean_over_processes
from detector.structures import ImageBatch, Target
from detector.training.losses import box_loss, class_loss, foreground_deltas, objectness_loss
from detector.training.targets import AnchorTargetSettings, RoITargetSettings, anchor_targets, roi_targets

# The samplers of one image draw from different streams.
RPN_STREAM, ROI_STREAM = 0, 1


class JointTraining(nn.Module):
    """Pictures and ground truth in, four losses out. The network itself never sees ground truth.

    Args:
        model: the network to train.
        proposals: how many proposals a training image gives.
        anchors, rois: how anchors and RoIs are labelled and sampled.
        rpn_beta, roi_beta: smooth L1's β of the two box losses.
        fast: run the network fast rather than as it is defined: the same to float rounding.
    """

    def __init__(
        self,
        model: FasterRCNN,
        proposals: ProposalSettings,
        anchors: AnchorTargetSettings,
        rois: RoITargetSettings,
        rpn_beta: float,
        roi_beta: float,
        fast: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.network: Forward = FastForward(model) if fast else ReadableForward(model)
        self.proposal_settings = proposals
        self.anchor_settings = anchors
        self.roi_settings = rois
        self.rpn_beta = rpn_beta
        self.roi_beta = roi_beta

    def forward(self, images: ImageBatch, targets: Sequence[Target], seeds: Sequence[int]) -> dict[str, Tensor]:
        """The losses of a batch.

        Args:
            images: N pictures.
            targets: N ground truths in the frame of the input images.
            seeds: one number per image; the samplers' choice is a function of it.

        Returns:
            `rpn_objectness`, `rpn_box`, `roi_class`, `roi_box`: float32 scalars whose sum is to be minimised. Every
            trained parameter takes part in them whatever the batch holds, so no worker of many waits for a gradient.
        """
        features = self.network.features(images)
        outputs = self.network.rpn(features)
        anchors = self.model.anchors(features.shape[2], features.shape[3])
        losses = self._rpn_losses(outputs, anchors, targets, seeds)
        proposals = [
            select_proposals(image_logits, image_deltas, anchors, size, self.proposal_settings).boxes
            for image_logits, image_deltas, size in zip(outputs.logits, outputs.deltas, images.sizes, strict=True)
        ]
        return losses | self._roi_losses(features, proposals, targets, seeds)

    def _rpn_losses(
        self, outputs: RPNOutputs, anchors: Tensor, targets: Sequence[Target], seeds: Sequence[int]
    ) -> dict[str, Tensor]:
        found = [
            anchor_targets(anchors, target, self.anchor_settings, _stream(seed, RPN_STREAM))
            for target, seed in zip(targets, seeds, strict=True)
        ]
        logits, deltas = outputs.at([torch.cat((f.positives, f.negatives)) for f in found])
        labels = torch.cat([torch.cat((torch.ones_like(f.positives), torch.zeros_like(f.negatives))) for f in found])
        # Both divide by the configured number of anchors, not by how many were found: the lineage's choice.
        normalizer = float(self.anchor_settings.batch_size_per_image * len(targets))
        return {
            "rpn_objectness": objectness_loss(logits, labels, normalizer),
            "rpn_box": box_loss(deltas[labels == 1], torch.cat([f.deltas for f in found]), self.rpn_beta, normalizer),
        }

    def _roi_losses(
        self, features: Tensor, proposals: Sequence[Tensor], targets: Sequence[Target], seeds: Sequence[int]
    ) -> dict[str, Tensor]:
        found = [
            roi_targets(boxes, target, self.roi_settings, _stream(seed, ROI_STREAM))
            for boxes, target, seed in zip(proposals, targets, seeds, strict=True)
        ]
        class_logits, deltas = self.network.roi_head(features, [f.boxes for f in found])
        labels = torch.cat([f.labels for f in found])
        foreground = labels > 0
        sampled = labels.new_tensor(labels.shape[0], dtype=torch.float32)
        # Sampled RoIs of the mean process, so that many workers minimise what one would. Outside of training processes
        # have different numbers of images, and nobody to meet here.
        normalizer = (mean_over_processes(sampled) if self.training else sampled).clamp(min=1)
        chosen = foreground_deltas(deltas[foreground], labels[foreground])
        return {
            "roi_class": class_loss(class_logits, labels, normalizer),
            "roi_box": box_loss(chosen, torch.cat([f.deltas for f in found]), self.roi_beta, normalizer),
        }


def _stream(seed: int, stream: int) -> int:
    return (2 * seed + stream) % 2**63


def build_joint(model: FasterRCNN, config: ModelConfig, fast: bool = True) -> JointTraining:
    """Wrap a network for training with the numbers of its config."""
    rpn, roi = config.rpn, config.roi
    return JointTraining(
        model,
        proposals=proposal_settings(rpn, training=True),
        anchors=AnchorTargetSettings(
            positive_iou=rpn.positive_iou,
            negative_iou=rpn.negative_iou,
            batch_size_per_image=rpn.batch_size_per_image,
            positive_fraction=rpn.positive_fraction,
            delta_weights=rpn.delta_weights,
        ),
        rois=RoITargetSettings(
            positive_iou=roi.positive_iou,
            batch_size_per_image=roi.batch_size_per_image,
            positive_fraction=roi.positive_fraction,
            delta_weights=roi.delta_weights,
        ),
        rpn_beta=rpn.smooth_l1_beta,
        roi_beta=roi.smooth_l1_beta,
        fast=fast,
    )
