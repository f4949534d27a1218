"""From class logits and deltas to detections (Fast R-CNN §3.1: per-class scores, per-class NMS)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from detector import boxes as box_ops
from detector.boxes import DeltaWeights
from detector.structures import Selection, Size


@dataclass(frozen=True)
class DetectionSettings:
    """Which detections are kept. min_size: width and height must reach it, in pixels of the input image."""

    score_threshold: float
    nms_threshold: float
    max_per_image: int
    min_size: float
    delta_weights: DeltaWeights


def select_detections(
    class_logits: Tensor, deltas: Tensor, proposals: Tensor, size: Size, settings: DetectionSettings
) -> Selection:
    """The detections of one image. One RoI may give a detection of several classes.

    Args:
        class_logits: [P, K+1] float32, column 0 the background.
        deltas: [P, K, 4] float32.
        proposals: [P, 4] float32 xyxy, absolute pixels of the input image.
        size: of the input image without padding; detections are clipped to it.

    Returns:
        Detections in the frame of the input image, descending by score.
    """
    scores = class_logits.softmax(dim=1)[:, 1:]
    finite = torch.isfinite(scores).all(dim=1) & torch.isfinite(deltas).all(dim=2).all(dim=1)
    # Thresholding before decoding gives the same detections and decodes some hundred boxes instead of P·K.
    rows, columns = torch.nonzero((scores > settings.score_threshold) & finite[:, None], as_tuple=True)
    scores = scores[rows, columns]
    boxes = box_ops.decode_deltas(proposals[rows], deltas[rows, columns], settings.delta_weights)
    boxes = box_ops.clip(boxes, size)
    if settings.min_size > 0:
        extent = boxes[:, 2:] - boxes[:, :2]
        large = (extent >= settings.min_size).all(dim=1)
        boxes, scores, columns = boxes[large], scores[large], columns[large]
    kept = batched_nms(boxes, scores, columns, settings.nms_threshold)[: settings.max_per_image]
    return Selection(boxes[kept], scores[kept], columns[kept] + 1)


def to_original_frame(detections: Selection, size: Size, original_size: Size) -> Selection:
    """Move detections from the input image (of `size`) to the original image, clip them to it, drop empty ones."""
    boxes = box_ops.clip(box_ops.rescale(detections.boxes, size, original_size), original_size)
    kept = box_ops.is_larger_than(boxes, 0.0)
    return Selection(boxes[kept], detections.scores[kept], detections.labels[kept])
