"""The four losses of a batch with targets in a fixed number of slots, so that the host waits for a GPU nowhere.

They are those of `joint.py` with `targets.py`, on the same anchors and regions, to float rounding: empty slots add
zeros to the sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.boxes import encode_deltas
from detector.fast.proposals import MadeAnchors, ProposalSlots, limits_of, proposal_slots, take_rows
from detector.model.faster_rcnn import FasterRCNN
from detector.process_group import mean_over_processes
from detector.structures import Features, Size, Target
from detector.training.losses import Losses, foreground_deltas
from detector.training.matcher import IGNORED, NEGATIVE
from detector.training.slot_sampler import MOST_SLOTS, SlotSample, draw, follows_randperm, sample_slots
from detector.training.targets import AnchorTargetSettings, RoITargetSettings, match_in_parts


def fits_slots(network: FasterRCNN, *counts: int) -> bool:
    """Whether a network can be trained in slots. counts: how many of them a picture has, in the RPN and in the head.

    A batch norm that trains in the RoI head would take empty slots into its statistics.
    """
    norms = (torch.nn.BatchNorm2d, torch.nn.SyncBatchNorm)
    head = network.roi_head
    assert isinstance(head, torch.nn.Module)
    trains_norm = any(isinstance(module, norms) for module in head.modules())
    return max(counts) <= MOST_SLOTS and not trains_norm and follows_randperm()


@dataclass(frozen=True)
class PaddedTargets:
    """Ground truth of N pictures, padded to G rows each: the largest number of boxes, but at least 1.

    boxes: [N, G, 4] float32, zeros in rows without a box. labels: [N, G] int64, 0 in these.
    """

    boxes: Tensor
    labels: Tensor

    @classmethod
    def of(cls, targets: Sequence[Target]) -> "PaddedTargets":
        """The ground truth of N pictures, on their device."""
        most = max(1, *(t.labels.shape[0] for t in targets))
        return cls(
            torch.stack([F.pad(t.boxes, (0, 0, 0, most - t.boxes.shape[0])) for t in targets]),
            torch.stack([F.pad(t.labels, (0, most - t.labels.shape[0])) for t in targets]),
        )

    @property
    def there(self) -> Tensor:
        """[N, G] bool, which rows have a box: labels are 1 and more."""
        return self.labels > 0

    def match(
        self, candidates: Tensor, positive_iou: float, negative_iou: float, keep_best: bool
    ) -> tuple[Tensor, Tensor]:
        """Labels and indices of boxes, [N, P] each, as `matcher.match` finds them for candidates [P, 4] or [N, P, 4].

        Rows without a box overlap nothing and come last, so nothing is matched with them. In a picture without a box
        all candidates are negative, whatever the thresholds.
        """
        matches = match_in_parts(self.boxes, candidates, positive_iou, negative_iou, keep_best)
        nothing = ~self.there.any(dim=1, keepdim=True)
        return matches.labels.masked_fill(nothing, NEGATIVE), matches.index


def rpn_slot_losses(
    network: FasterRCNN,
    features: Features,
    anchors: Sequence[MadeAnchors],
    truth: PaddedTargets,
    seeds: Sequence[int],
    settings: AnchorTargetSettings,
    beta: float,
) -> Losses:
    """`rpn_objectness` and `rpn_box`, as `JointTraining` has them.

    Args:
        anchors: of each feature map.
        seeds: of the sampler, one for each picture.
    """
    with torch.no_grad():
        boxes = torch.cat([of_map.boxes for of_map in anchors])
        labels, indices = truth.match(boxes, settings.positive_iou, settings.negative_iou, keep_best=True)
        draws = draw(seeds, boxes.shape[0] + settings.batch_size_per_image, boxes.device)
        chosen = sample_slots(labels, settings.batch_size_per_image, settings.positive_fraction, draws)
        matched = take_rows(truth.boxes, indices.gather(1, chosen.places))
        wanted = encode_deltas(boxes[chosen.places.flatten()], matched.flatten(0, 1), settings.delta_weights)
    logits, deltas = network.rpn.at(features, list(chosen.places))
    configured = float(settings.batch_size_per_image * len(seeds))
    normalizer = chosen.valid.sum().clamp(min=1) if settings.normalize_by_sampled else configured
    positive, valid = chosen.positive.flatten(), chosen.valid.flatten()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, positive.to(logits.dtype), reduction="none")
    return {
        "rpn_objectness": cross_entropy.where(valid, 0.0).sum() / normalizer,
        "rpn_box": slot_box_loss(deltas, wanted, positive, beta) / normalizer,
    }


@torch.no_grad()
def training_proposals(
    network: FasterRCNN, features: Features, anchors: Sequence[MadeAnchors], sizes: Sequence[Size]
) -> ProposalSlots:
    """The network's proposals; no gradient flows through them (§3.2). anchors: of each feature map."""
    limits = limits_of(sizes, features[0].values.device)
    return proposal_slots(network.rpn(features), anchors, limits, network.proposal_settings)


def roi_slot_losses(
    network: FasterRCNN,
    features: Features,
    proposals: ProposalSlots,
    truth: PaddedTargets,
    seeds: Sequence[int],
    settings: RoITargetSettings,
    beta: float,
    together: bool,
    class_weights: Tensor | None = None,
) -> Losses:
    """`roi_class` and `roi_box`, as `JointTraining` has them.

    Args:
        seeds: of the sampler, one for each picture.
        together: divide by the number of regions that a process samples on average; else by this process's own.
        class_weights: [K+1] of the labels in `roi_class`; None: all 1.
    """
    with torch.no_grad():
        candidates = torch.cat((proposals.boxes, truth.boxes), dim=1)
        there = torch.cat((proposals.valid, truth.there), dim=1)
        chosen, matched = _sampled_rois(candidates, there, truth, seeds, settings)
        boxes = take_rows(candidates, chosen.places).where(chosen.valid[..., None], 0.0)
        labels = truth.labels.gather(1, matched).where(chosen.positive, 0).flatten()
        wanted = encode_deltas(
            boxes.flatten(0, 1), take_rows(truth.boxes, matched).flatten(0, 1), settings.delta_weights
        )
        count = chosen.valid.sum().float()
        normalizer = (mean_over_processes(count) if together else count).clamp(min=1)
    logits, deltas = network.roi_head(features, list(boxes))
    own_class = foreground_deltas(deltas, labels.clamp(min=1))
    cross_entropy = F.cross_entropy(logits, labels, class_weights, reduction="none")
    return {
        "roi_class": cross_entropy.where(chosen.valid.flatten(), 0.0).sum() / normalizer,
        "roi_box": slot_box_loss(own_class, wanted, chosen.positive.flatten(), beta) / normalizer,
    }


def _sampled_rois(
    candidates: Tensor, there: Tensor, truth: PaddedTargets, seeds: Sequence[int], settings: RoITargetSettings
) -> tuple[SlotSample, Tensor]:
    """Sample candidates [N, P, 4], of which those marked in `there` [N, P] exist.

    Returns:
        The sample, and the index of the box that each slot's candidate stands for, [N, S] int64.
    """
    iou, count = settings.positive_iou, settings.batch_size_per_image
    labels, indices = truth.match(candidates, iou, iou, keep_best=False)
    draws = draw(seeds, candidates.shape[1] + count, candidates.device)
    chosen = sample_slots(labels.where(there, IGNORED), count, settings.positive_fraction, draws)
    return chosen, indices.gather(1, chosen.places)


def slot_box_loss(deltas: Tensor, wanted: Tensor, positive: Tensor, beta: float) -> Tensor:
    """Smooth L1 between deltas and the wanted ones, both [S, 4], summed over the slots that are `positive` [S].

    Both may hold anything in other slots, infinite numbers too.
    """
    wanted = wanted.where(positive[:, None], 0.0)
    loss = F.smooth_l1_loss(deltas, wanted, reduction="none", beta=beta)
    return loss.where(positive[:, None], 0.0).sum()
