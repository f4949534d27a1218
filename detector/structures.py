"""What travels between the parts of the detector.

Letters: N images of a batch, K foreground classes, A anchors per cell, H and W the input image, H' and W' the feature
map, P proposals of one image, R RoIs of the batch, G ground-truth boxes of one image, D detections of one image.
Boxes are [*, 4] float32 xyxy in absolute pixels, width x2 − x1. Labels are int64: 0 background, 1..K foreground.
Two frames exist: the *original image* (the file, upright) and the *input image* (resized for the network). Sizes are
(height, width).

torch is imported only for its types and where a tensor is made, since readers of data use sizes and samples without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Size = tuple[int, int]  # (height, width) in pixels


@dataclass(frozen=True)
class Sample:
    """One picture of a dataset with its annotations, as numpy, in the frame of the original image.

    boxes: [G, 4] float64 xyxy, absolute pixels of the original image. labels: [G] int64, 1..K. iscrowd: [G] bool; crowd
    boxes are kept here and left out of training targets. size: as the dataset states it, or None where it does not.
    """

    image_id: int
    path: str
    size: Size | None
    boxes: np.ndarray
    labels: np.ndarray
    iscrowd: np.ndarray


def moved(tensor: Tensor, device: torch.device, non_blocking: bool = False) -> Tensor:
    """A tensor on a device. The host does not wait for a GPU: it fetches from page-locked memory by itself.

    Nor does it wait with `non_blocking` for any other device.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device, non_blocking=non_blocking)


@dataclass
class Target:
    """Ground truth of one image of a batch.

    boxes: [G, 4] float32 xyxy, absolute pixels of the input image. labels: [G] int64, 1..K. Crowd boxes are not here.
    """

    boxes: Tensor
    labels: Tensor

    def to(self, device: torch.device, non_blocking: bool = False) -> Target:
        """A copy on another device; the host does not wait for a GPU, nor with `non_blocking` for any other device."""
        return Target(moved(self.boxes, device, non_blocking), moved(self.labels, device, non_blocking))

    def pin_memory(self) -> Target:
        """A copy in page-locked memory, from which a GPU reads without the processor's help."""
        return Target(self.boxes.pin_memory(), self.labels.pin_memory())


@dataclass
class ImageBatch:
    """Pictures of different sizes, padded at the right and bottom to one size.

    pixels: [N, 3, H, W] RGB, 0 to 255, uint8 (float32 where the resize was done in floats); zero in the padding.
    sizes: N true sizes of the input images inside the padding. original_sizes: N sizes of the files.
    image_ids: N dataset ids (or positions, where there is no dataset).
    """

    pixels: Tensor
    sizes: list[Size]
    original_sizes: list[Size]
    image_ids: list[int]

    def __len__(self) -> int:
        """N, the number of pictures."""
        return len(self.sizes)

    def to(self, device: torch.device, non_blocking: bool = False) -> ImageBatch:
        """The batch with its pixels on another device, as `Target.to`."""
        pixels = moved(self.pixels, device, non_blocking)
        return ImageBatch(pixels, self.sizes, self.original_sizes, self.image_ids)

    def pin_memory(self) -> ImageBatch:
        """The batch with its pixels in page-locked memory, as `Target.pin_memory`."""
        return ImageBatch(self.pixels.pin_memory(), self.sizes, self.original_sizes, self.image_ids)


class FeatureMap(NamedTuple):
    """What the backbone computes from a batch of pictures, at one resolution.

    values: [N, C, H', W']. stride: pixels of the input image per cell, along both axes.
    """

    values: Tensor
    stride: int


# From fine to coarse. A C4 network has one map; every part takes the tuple, so that a pyramid of maps can pass too.
Features = tuple[FeatureMap, ...]


@dataclass
class Proposals:
    """The regions of one image that may hold an object of any class.

    boxes: [P, 4] float32 xyxy, absolute pixels of the input image, clipped to it. logits: [P] float32 objectness,
    descending.
    """

    boxes: Tensor
    logits: Tensor


@dataclass
class Selection:
    """The boxes, scores and labels that the network selects in one image, in the frame of the input image.

    `postprocess.to_original_frame` moves them to the original image.

    boxes: [D, 4] float32 xyxy, absolute pixels. scores: [D] float32 in [0, 1], descending. labels: [D] int64, 1..K.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """D, the number of detections."""
        return int(self.scores.shape[0])

    def to(self, device: torch.device) -> Selection:
        """A copy of boxes, scores and labels on another device."""
        return Selection(self.boxes.to(device), self.scores.to(device), self.labels.to(device))

    @classmethod
    def empty(cls, device: torch.device | None = None) -> Selection:
        """A selection of no detections: [0, 4], [0] and [0]."""
        import torch

        return cls(
            torch.zeros(0, 4, device=device),
            torch.zeros(0, device=device),
            torch.zeros(0, dtype=torch.int64, device=device),
        )
