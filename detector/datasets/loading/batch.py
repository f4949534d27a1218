"""Batches: pictures of different sizes padded to one size, with their targets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from detector.structures import ImageBatch, Size, Target


class PreparedImage(NamedTuple):
    """One picture that is ready for a batch.

    pixels: [H, W, 3] uint8 or float32, the input image. target: in its frame. original_size: of the file. image_id: the
    dataset's.
    """

    pixels: np.ndarray
    target: Target
    original_size: Size
    image_id: int


@dataclass
class TrainingBatch:
    """A micro-batch with its ground truth.

    iteration: the step it belongs to. seeds: one number per image for the model's samplers. left_out: what is wrong
    with pictures that should have been in it.
    """

    iteration: int
    images: ImageBatch
    targets: list[Target]
    seeds: list[int]
    left_out: list[str] = field(default_factory=list)

    def to(self, device: torch.device, non_blocking: bool = False) -> "TrainingBatch":
        """The batch with its pixels, boxes and labels on another device, as `ImageBatch.to` and `Target.to`."""
        targets = [target.to(device, non_blocking) for target in self.targets]
        return TrainingBatch(self.iteration, self.images.to(device, non_blocking), targets, self.seeds, self.left_out)

    def pin_memory(self) -> "TrainingBatch":
        """Copy the batch into page-locked memory, from which a GPU reads without the processor's help."""
        pinned = [target.pin_memory() for target in self.targets]
        return TrainingBatch(self.iteration, self.images.pin_memory(), pinned, self.seeds, self.left_out)


def make_batch(
    images: Sequence[np.ndarray],
    original_sizes: Sequence[Size],
    image_ids: Sequence[int],
    pad_to_multiple: int = 1,
) -> ImageBatch:
    """Stack input images, padded with zeros at the right and the bottom.

    Args:
        images: N arrays [H, W, 3] in RGB, all uint8 or all float32, 0 to 255; one at least.
        original_sizes: (height, width) of the files.
        image_ids: their ids.
        pad_to_multiple: the batch's height and width are rounded up to a multiple of this.

    Returns:
        Pixels [N, 3, H, W] of the images' type.
    """
    assert images, "a batch needs an image"
    height, width = (_round_up(max(image.shape[axis] for image in images), pad_to_multiple) for axis in (0, 1))
    shape = (len(images), 3, height, width)
    # Not torch.zeros: where nothing is padded, as for most single pictures, the memory would be written twice.
    pixels = torch.empty(shape, dtype=torch.uint8 if images[0].dtype == np.uint8 else torch.float32)
    planes = pixels.numpy()
    for index, image in enumerate(images):
        image_height, image_width = image.shape[:2]
        planes[index, :, :image_height, :image_width] = image.transpose(2, 0, 1)
        planes[index, :, :image_height, image_width:] = 0
        planes[index, :, image_height:] = 0
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    return ImageBatch(pixels, sizes, list(original_sizes), list(image_ids))


def collate(prepared: Sequence[PreparedImage], pad_to_multiple: int = 1) -> tuple[ImageBatch, list[Target]]:
    """Batch pictures with their targets; see `make_batch`."""
    images = make_batch(
        [item.pixels for item in prepared],
        [item.original_size for item in prepared],
        [item.image_id for item in prepared],
        pad_to_multiple,
    )
    return images, [item.target for item in prepared]


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
