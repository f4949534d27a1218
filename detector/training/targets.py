"""What the losses compare with: targets for anchors (Faster R-CNN §3.1) and for RoIs (Fast R-CNN §2.3)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from detector.boxes import DeltaWeights, encode_deltas, pairwise_iou
from detector.structures import Target
from detector.training.matcher import NEGATIVE, POSITIVE, Matches, join, match
from detector.training.sampler import sample

# IoUs that are in memory at a time: a picture with tens of thousands of boxes would else need all of it.
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
    """Sampled anchors of one image. positives, negatives: indices into its anchors. deltas: [positives, 4]."""

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
    deltas: [F, 4] for the F foreground RoIs.
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
    """
    # Early proposals miss most objects; with the ground truth among them the head always has something to learn from.
    candidates = torch.cat((proposals, target.boxes))
    matches = match_in_parts(target.boxes, candidates, settings.positive_iou, settings.positive_iou, keep_best=False)
    positives, negatives = sample(matches.labels, settings.batch_size_per_image, settings.positive_fraction, seed)
    matched = matches.index[positives]
    boxes = candidates[positives]
    labels = torch.cat((target.labels[matched], torch.zeros_like(negatives)))
    deltas = encode_deltas(boxes, target.boxes[matched], settings.delta_weights)
    return RoITargets(torch.cat((boxes, candidates[negatives])), labels, deltas)


@torch.no_grad()
def refined_targets(boxes: Tensor, target: Target, settings: RoITargetSettings) -> RoITargets:
    """Label boxes that the head has regressed, all of them, and say how the foreground must move once more.

    Args:
        boxes: [R, 4] xyxy with area, absolute pixels of the input image.
        target: ground truth of the image, same frame.
    """
    matches = match_in_parts(target.boxes, boxes, settings.positive_iou, settings.positive_iou, keep_best=False)
    positives, negatives = (torch.nonzero(matches.labels == kind).flatten() for kind in (POSITIVE, NEGATIVE))
    matched = matches.index[positives]
    labels = torch.cat((target.labels[matched], torch.zeros_like(negatives)))
    deltas = encode_deltas(boxes[positives], target.boxes[matched], settings.delta_weights)
    return RoITargets(boxes[torch.cat((positives, negatives))], labels, deltas)


def match_in_parts(
    boxes: Tensor, candidates: Tensor, positive_iou: float, negative_iou: float, keep_best: bool
) -> Matches:
    """`matcher.match` of candidates [P, 4] with boxes [G, 4] of one frame; where these are many, some at a time.

    Or with boxes [N, G, 4] of N pictures, whose candidates are the same, or [N, P, 4].
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
