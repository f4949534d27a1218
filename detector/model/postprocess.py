"""From class logits and deltas to detections: softmax, decode, threshold, per-class NMS, top-k (Fast R-CNN §3)."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from detector import boxes as box_ops
from detector.boxes import DeltaWeights
from detector.model.box_averages import fuse_boxes, vote
from detector.model.soft_nms import soft_nms
from detector.structures import Selection, Size

MergeRule = Literal["nms", "soft_nms_linear", "soft_nms_gaussian", "weighted_fusion"]


@dataclass(frozen=True)
class DetectionSettings:
    """Which scored boxes become detections.

    score_threshold: a detection must score more.
    nms_threshold: IoU above which the worse of two boxes of a class is dropped.
    max_per_image: detections of all classes together, at most.
    min_size: pixels of the input image that width and height must reach.
    delta_weights, limit_shrinking: of the box code (`boxes.decode_deltas`).
    nms_frame: the image in whose pixels overlaps are measured. Lineages differ; results differ only by rounding.
    merge: what is done with boxes of a class that overlap; soft_nms_sigma and fusion_threshold belong to two of the
    rules.
    voting_threshold: IoU from which boxes take part in box voting; None: no voting.
    refine_passes: how often the head looks again at its own boxes.
    refine_keeps_all: select from the predictions of all passes, not only of the last.
    """

    score_threshold: float
    nms_threshold: float
    max_per_image: int
    min_size: float
    delta_weights: DeltaWeights
    limit_shrinking: bool = False
    nms_frame: Literal["input", "original"] = "input"
    merge: MergeRule = "nms"
    soft_nms_sigma: float = 0.5
    fusion_threshold: float = 0.55
    voting_threshold: float | None = None
    refine_passes: int = 0
    refine_keeps_all: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether every region is scored once and boxes are merged by nothing but NMS."""
        return self.merge == "nms" and self.voting_threshold is None and self.refine_passes == 0


def decode_scores(
    class_logits: Tensor, deltas: Tensor, boxes: Tensor, delta_weights: DeltaWeights, limit_shrinking: bool = False
) -> tuple[Tensor, Tensor]:
    """Class scores of regions, and the box that each class would give them.

    Args:
        class_logits: [R, K+1] float32, column 0 the background.
        deltas: [R, K, 4] float32.
        boxes: [R, 4] float32 xyxy, absolute pixels of the input image.
        delta_weights, limit_shrinking: of the box code.

    Returns:
        Scores [R, K+1] in [0, 1] that sum to 1, and boxes [R, K, 4] of the same frame, not clipped. Both are NaN
        throughout a row whose scores or deltas are not finite: since decoding limits growth, an infinite delta would
        otherwise give an ordinary box.
    """
    scores = class_logits.softmax(dim=1)
    decoded = box_ops.decode_deltas(boxes, deltas, delta_weights, limit_shrinking)
    finite = torch.isfinite(scores).all(dim=1) & torch.isfinite(deltas).all(dim=2).all(dim=1)
    return scores.where(finite[:, None], math.nan), decoded.where(finite[:, None, None], math.nan)


def select_detections(
    scores: Tensor, boxes: Tensor, size: Size, settings: DetectionSettings, original_size: Size | None = None
) -> Selection:
    """The detections of one image. One RoI may give a detection of several classes.

    Args:
        scores: [P, K+1] float32, column 0 the background; NaN selects nothing.
        boxes: [P, K, 4] float32 xyxy, absolute pixels of the input image.
        size: of the input image without padding; detections are clipped to it.
        original_size: of the original image, for `nms_frame="original"`; None: as `size`.

    Returns:
        Detections in the frame of the input image, descending by score.
    """
    rows, classes = torch.nonzero(scores[:, 1:] > settings.score_threshold, as_tuple=True)
    labels = classes + 1
    boxes, scores = box_ops.clip(boxes[rows, classes], size), scores[rows, labels]
    if settings.min_size > 0:
        large = (boxes[:, 2:] - boxes[:, :2] >= settings.min_size).all(dim=1)
        boxes, scores, labels = boxes[large], scores[large], labels[large]
    compared = None
    if settings.nms_frame == "original" and original_size is not None:
        compared = box_ops.rescale(boxes, size, original_size)
    return merge_boxes(boxes, scores, labels, settings, compared=compared)


def merge_boxes(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    settings: DetectionSettings,
    sources: int = 1,
    compared: Tensor | None = None,
) -> Selection:
    """Make one detection of the boxes of a class that overlap, by the rule that the settings name.

    Args:
        boxes: [B, 4] float32 xyxy of one image, absolute pixels of any frame.
        scores: [B] float32.
        labels: [B] int64, 1..K.
        sources: how many views or models the boxes come from; weighted fusion needs it.
        compared: [B, 4], the same boxes in the frame in which NMS and soft-NMS measure overlaps; None: as `boxes`.

    Returns:
        The best `max_per_image` detections, descending by score, in the frame of the boxes.
    """
    if settings.merge == "weighted_fusion":
        boxes, scores, labels = fuse_boxes(boxes, scores, labels, settings.fusion_threshold, sources)
        kept = torch.nonzero(scores > settings.score_threshold).flatten()[: settings.max_per_image]
        return Selection(boxes[kept], scores[kept], labels[kept])
    compared = boxes if compared is None else compared
    if settings.merge == "nms":
        # Labels from 0: torchvision moves classes apart by them, and coordinates further out are rounded more.
        kept = batched_nms(compared, scores, labels - 1, settings.nms_threshold)[: settings.max_per_image]
        kept_scores = scores[kept]
    else:
        threshold = settings.nms_threshold if settings.merge == "soft_nms_linear" else None
        floor, limit = settings.score_threshold, settings.max_per_image
        kept, kept_scores = soft_nms(compared, scores, labels, threshold, settings.soft_nms_sigma, floor, limit)
    kept_boxes = boxes[kept]
    if settings.voting_threshold is not None:
        kept_boxes = vote(kept_boxes, labels[kept], boxes, scores, labels, settings.voting_threshold)
    return Selection(kept_boxes, kept_scores, labels[kept])


def to_original_frame(selection: Selection, size: Size, original_size: Size) -> Selection:
    """Move detections from the input image (of `size`) to the original image, clip them to it, drop empty ones."""
    boxes = box_ops.clip(box_ops.rescale(selection.boxes, size, original_size), original_size)
    kept = box_ops.is_larger_than(boxes, 0.0)
    return Selection(boxes[kept], selection.scores[kept], selection.labels[kept])
