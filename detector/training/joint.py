"""Approximate joint training (Faster R-CNN §3.2): the network, its targets and its losses as one module."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detector.config import ModelConfig
from detector.fast.proposals import MadeAnchors
from detector.fast.training import training_network
from detector.model.build import proposal_settings
from detector.model.faster_rcnn import FasterRCNN
from detector.model.refinement import usable_boxes
from detector.process_group import mean_over_processes
from detector.structures import Features, ImageBatch, Size, Target
from detector.training.losses import Losses, box_loss, class_loss, foreground_deltas, objectness_loss
from detector.training.slot_losses import (
    PaddedTargets,
    fits_slots,
    roi_slot_losses,
    rpn_slot_losses,
    training_proposals,
)
from detector.training.targets import (
    AnchorTargetSettings,
    RoITargets,
    RoITargetSettings,
    anchor_targets,
    refined_targets,
    roi_targets,
)

# The samplers of one image draw from different streams.
RPN_STREAM, ROI_STREAM = 0, 1


class JointTraining(nn.Module):
    """Pictures and ground truth in, four losses out. The network itself never sees ground truth.

    Args:
        model: the network that is trained.
        network: the parts that a training step runs, made from `model` and with its parameters.
        anchors, rois: how anchors and RoIs are labelled and sampled.
        rpn_beta, roi_beta: smooth L1's β of the two box losses.
        in_slots: sample into a fixed number of slots, so that the host need not wait for a GPU. The losses are the same
            to rounding.
        refine: train the head on its own boxes as well (`model.roi.train_refinement`); not together with `in_slots`.
        class_weights: [K+1] weights of the labels in the head's class losses; None: all 1.
    """

    def __init__(
        self,
        model: FasterRCNN,
        network: FasterRCNN,
        anchors: AnchorTargetSettings,
        rois: RoITargetSettings,
        rpn_beta: float,
        roi_beta: float,
        in_slots: bool = False,
        refine: bool = False,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        assert not (in_slots and (refine or network.roi_head.has_context))
        self.model = model
        self.network = network
        self.anchor_settings = anchors
        self.roi_settings = rois
        self.rpn_beta = rpn_beta
        self.roi_beta = roi_beta
        self.in_slots = in_slots
        self.refine = refine
        self.class_weights = None if class_weights is None else class_weights.to(model.device)

    def forward(self, images: ImageBatch, targets: Sequence[Target], seeds: Sequence[int]) -> Losses:
        """Compute the losses of a batch.

        Args:
            images: N pictures.
            targets: N ground truths in the frame of the input images.
            seeds: one number per image; the samplers' choice is a function of it.

        Returns:
            `rpn_objectness`, `rpn_box`, `roi_class`, `roi_box`, and with `refine` those of the second pass,
            `refine_class` and `refine_box`: float32 scalars whose sum is to be minimised. Every trained parameter takes
            part in them whatever the batch holds, so no worker of many waits for a gradient.
        """
        features = self.network.features(images)
        if self.in_slots:
            return self._losses_in_slots(features, images.sizes, targets, seeds)
        losses = self._rpn_losses(features, targets, seeds)
        proposals = self.network.propose(features, images.sizes)
        return losses | self._roi_losses(features, images.sizes, [p.boxes for p in proposals], targets, seeds)

    def _losses_in_slots(
        self, features: Features, sizes: Sequence[Size], targets: Sequence[Target], seeds: Sequence[int]
    ) -> Losses:
        """The four losses, sampled into slots (`slot_losses.py`)."""
        network, truth = self.network, PaddedTargets.of(targets)
        rpn_seeds, roi_seeds = ([_stream(seed, number) for seed in seeds] for number in (RPN_STREAM, ROI_STREAM))
        anchors = [MadeAnchors(grid.all()) for grid in network.anchors(features)]
        losses = rpn_slot_losses(network, features, anchors, truth, rpn_seeds, self.anchor_settings, self.rpn_beta)
        proposals = training_proposals(network, features, anchors, sizes)
        return losses | roi_slot_losses(
            network,
            features,
            proposals,
            truth,
            roi_seeds,
            self.roi_settings,
            self.roi_beta,
            together=self.training,
            class_weights=self.class_weights,
        )

    def _rpn_losses(self, features: Features, targets: Sequence[Target], seeds: Sequence[int]) -> Losses:
        """The losses of the region proposal network on the anchors sampled in N images."""
        anchors = torch.cat([grid.all() for grid in self.network.anchors(features)])
        samples = [
            anchor_targets(anchors, target, self.anchor_settings, _stream(seed, RPN_STREAM))
            for target, seed in zip(targets, seeds, strict=True)
        ]
        logits, deltas = self.network.rpn.at(features, [torch.cat((s.positives, s.negatives)) for s in samples])
        labels = torch.cat([torch.cat((torch.ones_like(s.positives), torch.zeros_like(s.negatives))) for s in samples])
        # detectron2 divides both by the configured number of anchors, torchvision by how many were sampled.
        configured = self.anchor_settings.batch_size_per_image * len(targets)
        normalizer = float(max(labels.shape[0], 1) if self.anchor_settings.normalize_by_sampled else configured)
        return {
            "rpn_objectness": objectness_loss(logits, labels, normalizer),
            "rpn_box": box_loss(deltas[labels == 1], torch.cat([s.deltas for s in samples]), self.rpn_beta, normalizer),
        }

    def _roi_losses(
        self,
        features: Features,
        sizes: Sequence[Size],
        proposals: Sequence[Tensor],
        targets: Sequence[Target],
        seeds: Sequence[int],
    ) -> Losses:
        """The losses of the head on the RoIs sampled in N images; with `refine`, also on the boxes it makes of them."""
        samples = [
            roi_targets(boxes, target, self.roi_settings, _stream(seed, ROI_STREAM))
            for boxes, target, seed in zip(proposals, targets, seeds, strict=True)
        ]
        class_logits, deltas = self.network.head_outputs(features, [s.boxes for s in samples], sizes)
        losses = self._head_losses("roi", class_logits, deltas, samples)
        if self.refine:
            again = self._refined_samples(class_logits, deltas, samples, sizes, targets)
            refined = self.network.head_outputs(features, [s.boxes for s in again], sizes)
            losses |= self._head_losses("refine", *refined, again)
        return losses

    @torch.no_grad()
    def _refined_samples(
        self,
        class_logits: Tensor,
        deltas: Tensor,
        samples: Sequence[RoITargets],
        sizes: Sequence[Size],
        targets: Sequence[Target],
    ) -> list[RoITargets]:
        """The boxes that the head makes of the sampled RoIs, as `refine` in detection, with targets of their own.

        No gradient flows through the boxes, as none does through proposals.
        """
        scores, boxes = self.network.decode(class_logits, deltas, [s.boxes for s in samples])
        return [
            refined_targets(usable_boxes(s, b, size), target, self.roi_settings)
            for s, b, size, target in zip(scores, boxes, sizes, targets, strict=True)
        ]

    def _head_losses(self, name: str, class_logits: Tensor, deltas: Tensor, samples: Sequence[RoITargets]) -> Losses:
        """Both losses of the head on the sampled RoIs of N images, named `{name}_class` and `{name}_box`."""
        labels = torch.cat([s.labels for s in samples])
        foreground = labels > 0
        count = torch.full((), float(labels.shape[0]), device=labels.device)
        # RoIs sampled by a process on average, so that several processes minimise what one would. Outside of training
        # processes have different numbers of batches, so one would wait here for others that never come.
        normalizer = (mean_over_processes(count) if self.training else count).clamp(min=1)
        own_class = foreground_deltas(deltas[foreground], labels[foreground])
        return {
            f"{name}_class": class_loss(class_logits, labels, normalizer, self.class_weights),
            f"{name}_box": box_loss(own_class, torch.cat([s.deltas for s in samples]), self.roi_beta, normalizer),
        }


def _stream(seed: int, stream: int) -> int:
    """The seed of one sampler, from that of the image and the sampler's number, 0 or 1."""
    return (2 * seed + stream) % 2**63


def build_joint(
    model: FasterRCNN,
    config: ModelConfig,
    fast: bool = True,
    in_slots: bool | None = None,
    class_weights: Tensor | None = None,
) -> JointTraining:
    """Wrap a network for training with the numbers of its config.

    Args:
        model: as `build_model` makes it, on its device, and with its norms in their final form.
        config: of the model.
        fast: run it from the parts of `detector.fast.training`, which give the same to float rounding.
        class_weights: as for `JointTraining`.
        in_slots: as for `JointTraining`; None: on a GPU, unless a batch norm trains in the RoI head, or it refines its
            boxes in training or has global context.
    """
    rpn, roi = config.rpn, config.roi
    if in_slots is None:
        slots = (rpn.batch_size_per_image, roi.batch_size_per_image)
        in_slots = fast and model.device.type == "cuda" and fits_slots(model, *slots)
        in_slots = in_slots and not (roi.train_refinement or roi.global_context)
    return JointTraining(
        model,
        network=training_network(model, proposal_settings(rpn, training=True), fast),
        anchors=AnchorTargetSettings(
            positive_iou=rpn.positive_iou,
            negative_iou=rpn.negative_iou,
            batch_size_per_image=rpn.batch_size_per_image,
            positive_fraction=rpn.positive_fraction,
            delta_weights=rpn.delta_weights,
            normalize_by_sampled=rpn.normalize_by == "sampled",
        ),
        rois=RoITargetSettings(
            positive_iou=roi.positive_iou,
            batch_size_per_image=roi.batch_size_per_image,
            positive_fraction=roi.positive_fraction,
            delta_weights=roi.delta_weights,
        ),
        rpn_beta=rpn.smooth_l1_beta,
        roi_beta=roi.smooth_l1_beta,
        in_slots=in_slots,
        refine=roi.train_refinement,
        class_weights=class_weights,
    )
