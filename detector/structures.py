"""What travels between the parts of the detector.

Letters: N images of a batch, K foreground classes, A anchors per cell, H and W the input image, H' and W' the feature
map, P proposals of one image, R RoIs of the batch, G ground-truth boxes of one image, D detections of one image.
Boxes are [*, 4] float32 xyxy in absolute pixels, width x2 − x1. Labels are int64: 0 background, 1..K foreground.
Two frames exist: the *original image* (the file, upright) and the *input image* (resized for the network). Sizes are
(height, width).

torch is imported for its types alone, and where a tensor is made: sizes and samples are for readers without it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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


@dataclass
class Target:
    """Ground truth of one image of a batch.

    boxes: [G, 4] float32 xyxy, absolute pixels of the input image. labels: [G] int64, 1..K. Crowd boxes are not here.
    """

    boxes: Tensor
    labels: Tensor

    def to(self, device: torch.device, non_blocking: bool = False) -> Target:
        return Target(
            self.boxes.to(device, non_blocking=non_blocking),
            self.labels.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> Target:
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
        return len(self.sizes)

    def to(self, device: torch.device, non_blocking: bool = False) -> ImageBatch:
        pixels = self.pixels.to(device, non_blocking=non_blocking)
        return ImageBatch(pixels, self.sizes, self.original_sizes, self.image_ids)

    def pin_memory(self) -> ImageBatch:
        return ImageBatch(self.pixels.pin_memory(), self.sizes, self.original_sizes, self.image_ids)


@dataclass
class Proposals:
    """Class-agnostic regions of one image.

    boxes: [P, 4] float32 xyxy, absolute pixels of the input image, clipped to it. logits: [P] float32 objectness,
    descending.
    """

    boxes: Tensor
    logits: Tensor


@dataclass
class Selection:
    """What the network selects from one image: its detections, in the frame of the input image.

    `to_original_frame` moves them to the original image; what a user gets is made from that, with names.

    boxes: [D, 4] float32 xyxy, absolute pixels. scores: [D] float32 in [0, 1], descending. labels: [D] int64, 1..K.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return int(self.scores.shape[0])

    def to(self, device: torch.device) -> Selection:
        """The same on a device."""
        return Selection(self.boxes.to(device), self.scores.to(device), self.labels.to(device))

    @classmethod
    def empty(cls, device: torch.device | None = None) -> Selection:
        """Nothing selected, on a device (default: the CPU)."""
        import torch

        return cls(
            torch.zeros(0, 4, device=device),
            torch.zeros(0, device=device),
            torch.zeros(0, dtype=torch.int64, device=device),
        )
