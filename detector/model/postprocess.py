"""From class logits and deltas to detections: softmax, decode, threshold, per-class NMS, top-k (Fast R-CNN §3.1)."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from detector import boxes as box_ops
from detector.boxes import DeltaWeights
from detector.structures import Selection, Size


@dataclass(frozen=True)
class DetectionSettings:
    """Which detections are kept.

    score_threshold: a detection must score more. nms_threshold: IoU above which the worse of two of a class goes.
    max_per_image: of all classes together. min_size: width and height must reach it, in pixels of the input image.
    delta_weights, limit_shrinking: of the box code. nms_frame: in which image's pixels overlaps are measured; that of
    the two axes which scales more weighs more there.
    """

    score_threshold: float
    nms_threshold: float
    max_per_image: int
    min_size: float
    delta_weights: DeltaWeights
    limit_shrinking: bool = False
    nms_frame: Literal["input", "original"] = "input"


def decode_scores(
    class_logits: Tensor, deltas: Tensor, boxes: Tensor, delta_weights: DeltaWeights, limit_shrinking: bool = False
) -> tuple[Tensor, Tensor]:
    """Class scores of boxes, and where each class would have them.

    Args:
        class_logits: [R, K+1] float32, column 0 the background.
        deltas: [R, K, 4] float32.
        boxes: [R, 4] float32 xyxy, absolute pixels of the input image.
        delta_weights, limit_shrinking: of the box code.

    Returns:
        Scores [R, K+1] in [0, 1] that sum to 1, and boxes [R, K, 4] of the same frame, not clipped. Both are NaN
        throughout a row whose scores or deltas are not finite: decoding limits growth, so an infinite delta would else
        give an ordinary box.
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
    rows, columns = torch.nonzero(scores[:, 1:] > settings.score_threshold, as_tuple=True)
    selected, candidates = scores[rows, columns + 1], box_ops.clip(boxes[rows, columns], size)
    if settings.min_size > 0:
        large = (candidates[:, 2:] - candidates[:, :2] >= settings.min_size).all(dim=1)
        selected, candidates, columns = selected[large], candidates[large], columns[large]
    compared = candidates
    if settings.nms_frame == "original" and original_size is not None:
        compared = box_ops.rescale(candidates, size, original_size)
    kept = batched_nms(compared, selected, columns, settings.nms_threshold)[: settings.max_per_image]
    return Selection(candidates[kept], selected[kept], columns[kept] + 1)


def to_original_frame(selection: Selection, size: Size, original_size: Size) -> Selection:
    """Move detections from the input image (of `size`) to the original image, clip them to it, drop empty ones."""
    boxes = box_ops.clip(box_ops.rescale(selection.boxes, size, original_size), original_size)
    kept = box_ops.is_larger_than(boxes, 0.0)
    return Selection(boxes[kept], selection.scores[kept], selection.labels[kept])
