"""What the losses compare with: targets for anchors (Faster R-CNN §3.1) and for RoIs (Fast R-CNN §2.3)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from detector.boxes import DeltaWeights, encode_deltas, pairwise_iou
from detector.structures import Target
from detector.training.matcher import NEGATIVE, POSITIVE, Matches, join, match
from detector.training.sampler import sample

# IoUs held in memory at a time, so that a picture with tens of thousands of boxes does not need gigabytes of them.
MOST_PAIRS = 2**25


@dataclass(frozen=True)
class AnchorTargetSettings:
    """The IoU thresholds of §3.1.2, and how many anchors of an image §3.1.3 samples for the losses.

    normalize_by_sampled: divide the losses by the number of anchors that were sampled; otherwise by
    `batch_size_per_image` for every image, though fewer may have been there to sample.
    """

    positive_iou: float
    negative_iou: float
    batch_size_per_image: int
    positive_fraction: float
    delta_weights: DeltaWeights
    normalize_by_sampled: bool = False


@dataclass(frozen=True)
class AnchorTargets:
    """Sampled anchors of one image.

    positives, negatives: int64 indices into its anchors. deltas: [positives, 4], from those anchors to their objects.
    """

    positives: Tensor
    negatives: Tensor
    deltas: Tensor


@torch.no_grad()
def anchor_targets(anchors: Tensor, target: Target, settings: AnchorTargetSettings, seed: int) -> AnchorTargets:
    """Label anchors, sample them, and say how the positive ones must move.

    All anchors take part, also those that reach beyond the image: the paper drops these (§3.3), detectron2 and
    torchvision keep them.

    Args:
        anchors: [H'·W'·A, 4] xyxy, absolute pixels of the input image; of a pyramid, those of all maps.
        target: ground truth of the image, same frame.
        settings: what is positive, and how many are sampled.
        seed: the sampler's choice is a function of it.
    """
    matches = match_in_parts(target.boxes, anchors, settings.positive_iou, settings.negative_iou, keep_best=True)
    positives, negatives = sample(matches.labels, settings.batch_size_per_image, settings.positive_fraction, seed)
    matched = target.boxes[matches.index[positives]]
    return AnchorTargets(positives, negatives, encode_deltas(anchors[positives], matched, settings.delta_weights))


@dataclass(frozen=True)
class RoITargetSettings:
    """Numbers of Fast R-CNN §2.3: the IoU of a foreground RoI, and how many RoIs of an image enter the loss."""

    positive_iou: float
    batch_size_per_image: int
    positive_fraction: float
    delta_weights: DeltaWeights


@dataclass(frozen=True)
class RoITargets:
    """Sampled RoIs of one image, the foreground first.

    boxes: [R, 4] xyxy, absolute pixels of the input image. labels: [R] int64, 0 the background.
    deltas: [F, 4], from the F foreground RoIs to their objects.
    """

    boxes: Tensor
    labels: Tensor
    deltas: Tensor


@torch.no_grad()
def roi_targets(proposals: Tensor, target: Target, settings: RoITargetSettings, seed: int) -> RoITargets:
    """Add the ground truth to the proposals, label them, sample them, and say how the foreground must move.

    Args:
        proposals: [P, 4] xyxy, absolute pixels of the input image.
        target: ground truth of the image, same frame.
        settings: what is foreground, and how many are sampled.
        seed: the sampler's choice is a function of it.
    """
    # Early proposals miss most objects; with the ground truth among them the head always has something to learn from.
    candidates = torch.cat((proposals, target.boxes))
    matches = match_in_parts(target.boxes, candidates, settings.positive_iou, settings.positive_iou, keep_best=False)
    positives, negatives = sample(matches.labels, settings.batch_size_per_image, settings.positive_fraction, seed)
    return _targets_of(candidates, positives, negatives, matches, target, settings)


@torch.no_grad()
def refined_targets(boxes: Tensor, target: Target, settings: RoITargetSettings) -> RoITargets:
    """Label all boxes that the head has regressed, without sampling, and say how the foreground must move once more.

    Args:
        boxes: [R, 4] xyxy with area, absolute pixels of the input image.
        target: ground truth of the image, same frame.
    """
    matches = match_in_parts(target.boxes, boxes, settings.positive_iou, settings.positive_iou, keep_best=False)
    positives, negatives = (torch.nonzero(matches.labels == kind).flatten() for kind in (POSITIVE, NEGATIVE))
    return _targets_of(boxes, positives, negatives, matches, target, settings)


def _targets_of(
    candidates: Tensor,
    positives: Tensor,
    negatives: Tensor,
    matches: Matches,
    target: Target,
    settings: RoITargetSettings,
) -> RoITargets:
    """The targets of the candidates [P, 4] with these indices, given what all of them were matched with."""
    matched, foreground = matches.index[positives], candidates[positives]
    labels = torch.cat((target.labels[matched], torch.zeros_like(negatives)))
    deltas = encode_deltas(foreground, target.boxes[matched], settings.delta_weights)
    return RoITargets(torch.cat((foreground, candidates[negatives])), labels, deltas)


def match_in_parts(
    boxes: Tensor, candidates: Tensor, positive_iou: float, negative_iou: float, keep_best: bool
) -> Matches:
    """`matcher.match` by the IoUs of boxes and candidates of one frame; many boxes are matched some at a time.

    Args:
        boxes: [G, 4] ground truth of one picture, or [N, G, 4] of N pictures.
        candidates: [P, 4], for N pictures also [N, P, 4].
        positive_iou, negative_iou, keep_best: as for `match`.
    """
    pictures = boxes.shape[:-2].numel()
    parts = torch.split(boxes, max(1, MOST_PAIRS // max(1, pictures * candidates.shape[-2])), dim=-2)
    matches = match(pairwise_iou(parts[0], candidates), positive_iou, negative_iou, keep_best)
    done = parts[0].shape[-2]
    for part in parts[1:]:
        of_part = match(pairwise_iou(part, candidates), positive_iou, negative_iou, keep_best)
        matches = join(matches, of_part, done)
        done += part.shape[-2]
    return matches
