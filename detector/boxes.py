"""Geometry of xyxy boxes, and the box codec. Width is x2 − x1; no pixel is added or taken off anywhere."""

import math

import torch
from torch import Tensor

from detector.structures import Size

DeltaWeights = tuple[float, float, float, float]

# exp(t_w) is limited, so that one wild prediction cannot overflow: a box grows 62.5 times at most, from 16 to 1000
# pixels. (The value is Detectron's, which its successors have kept.)
MAX_LOG_SCALE = math.log(1000.0 / 16.0)


def area(boxes: Tensor) -> Tensor:
    """Areas of [*, 4] xyxy boxes as [*], square pixels; not meaningful for boxes with swapped corners."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of every pair of boxes of the same frame.

    Args:
        first: [*, G, 4] xyxy; * are any leading dimensions, or none.
        second: [*, P, 4] xyxy, with the same leading dimensions as `first`, or none.

    Returns:
        [*, G, P] in [0, 1]; 0 where the intersection is empty, also for boxes without area.
    """
    top_left = torch.maximum(first[..., :, None, :2], second[..., None, :, :2])
    bottom_right = torch.minimum(first[..., :, None, 2:], second[..., None, :, 2:])
    extent = (bottom_right - top_left).clamp(min=0)
    intersection = extent[..., 0] * extent[..., 1]
    union = area(first)[..., :, None] + area(second)[..., None, :] - intersection
    return torch.where(intersection > 0, intersection / union, torch.zeros_like(intersection))


def clip(boxes: Tensor, size: Size) -> Tensor:
    """Clip [*, 4] xyxy boxes to an image of `size`: x to [0, width], y to [0, height]."""
    height, width = size
    x = boxes[..., 0::2].clamp(0, width)
    y = boxes[..., 1::2].clamp(0, height)
    return torch.stack((x[..., 0], y[..., 0], x[..., 1], y[..., 1]), dim=-1)


def is_larger_than(boxes: Tensor, min_size: float) -> Tensor:
    """[*] bool: width and height both exceed `min_size` pixels (strictly)."""
    return ((boxes[..., 2] - boxes[..., 0]) > min_size) & ((boxes[..., 3] - boxes[..., 1]) > min_size)


def flip_horizontal(boxes: Tensor, width: float) -> Tensor:
    """Mirror [*, 4] xyxy boxes left to right in an image `width` pixels wide."""
    return torch.stack((width - boxes[..., 2], boxes[..., 1], width - boxes[..., 0], boxes[..., 3]), dim=-1)


def flip_vertical(boxes: Tensor, height: float) -> Tensor:
    """Mirror [*, 4] xyxy boxes top to bottom in an image `height` pixels high."""
    return torch.stack((boxes[..., 0], height - boxes[..., 3], boxes[..., 2], height - boxes[..., 1]), dim=-1)


def rescale(boxes: Tensor, from_size: Size, to_size: Size) -> Tensor:
    """Move [*, 4] xyxy boxes from an image of one size to the same image resized; x and y are scaled separately."""
    ratio_y, ratio_x = to_size[0] / from_size[0], to_size[1] / from_size[1]
    return boxes * boxes.new_tensor((ratio_x, ratio_y, ratio_x, ratio_y))


def encode_deltas(boxes: Tensor, targets: Tensor, weights: DeltaWeights) -> Tensor:
    """Regression targets (t_x, t_y, t_w, t_h) that move `boxes` onto `targets` (Faster R-CNN §3.1.2, eq. 2).

    Args:
        boxes: [R, 4] xyxy with positive width and height.
        targets: [R, 4] xyxy of the same frame, with positive width and height.
        weights: factors of the four terms; the head's (10, 10, 5, 5) give its targets about unit variance.

    Returns:
        [R, 4] deltas.
    """
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    center_x, center_y = boxes[:, 0] + 0.5 * width, boxes[:, 1] + 0.5 * height
    target_width, target_height = targets[:, 2] - targets[:, 0], targets[:, 3] - targets[:, 1]
    target_x, target_y = targets[:, 0] + 0.5 * target_width, targets[:, 1] + 0.5 * target_height
    return torch.stack(
        (
            weights[0] * (target_x - center_x) / width,
            weights[1] * (target_y - center_y) / height,
            weights[2] * torch.log(target_width / width),
            weights[3] * torch.log(target_height / height),
        ),
        dim=1,
    )


def decode_deltas(boxes: Tensor, deltas: Tensor, weights: DeltaWeights, limit_shrinking: bool = False) -> Tensor:
    """Apply regression deltas to boxes (R-CNN, appendix C; Faster R-CNN §3.1.2, eq. 2).

    Args:
        boxes: [R, 4] xyxy, absolute pixels of the input image.
        deltas: [R, C, 4] or [R, 4], (t_x, t_y, t_w, t_h), scaled by `weights`.
        weights: divisors undoing the scaling applied by `encode_deltas`.
        limit_shrinking: keep t_w and t_h above −`MAX_LOG_SCALE` too, as mmdetection does.

    Returns:
        Boxes in the shape of `deltas` and the type of `boxes`: xyxy, absolute pixels of the input image, not clipped.
        t_w and t_h count as `MAX_LOG_SCALE` where they are larger.
    """
    deltas = deltas.to(boxes.dtype)  # bfloat16 coordinates would be pixels off
    if deltas.dim() == 3:
        boxes = boxes[:, None, :]
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    center_x, center_y = boxes[..., 0] + 0.5 * width, boxes[..., 1] + 0.5 * height
    t_x, t_y = deltas[..., 0] / weights[0], deltas[..., 1] / weights[1]
    smallest = -MAX_LOG_SCALE if limit_shrinking else None
    t_w = (deltas[..., 2] / weights[2]).clamp(smallest, MAX_LOG_SCALE)
    t_h = (deltas[..., 3] / weights[3]).clamp(smallest, MAX_LOG_SCALE)
    new_x, new_y = t_x * width + center_x, t_y * height + center_y
    half_width, half_height = 0.5 * torch.exp(t_w) * width, 0.5 * torch.exp(t_h) * height
    return torch.stack((new_x - half_width, new_y - half_height, new_x + half_width, new_y + half_height), dim=-1)
