"""Resize, flip and augment: image and boxes moved together, in training by an explicit random generator."""

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from detector import boxes as box_geometry
from detector.config import AugmentConfig, InputConfig
from detector.datasets.pictures.augment import jitter_color, random_crop
from detector.datasets.pictures.named_transforms import NamedTransforms
from detector.datasets.pictures.pil_resize import resize_like_pil
from detector.datasets.pictures.sizes import ResizeKind, resized_size
from detector.structures import Sample, Size, Target

# Boxes that are not wider and higher than this after all transforms are gone (detectron2's limit, input pixels).
MIN_BOX_SIDE = 1e-5


def resize(image: np.ndarray, size: Size, how: ResizeKind) -> np.ndarray:
    """Resize an [H, W, 3] uint8 image to `size`.

    "pil" gives uint8, bit for bit Pillow's antialiased bilinear resize; "cv2" gives uint8, OpenCV's bilinear resize
    without antialiasing, in fixed-point arithmetic, as mmdetection calls it. "torchvision" gives float32 in 0..255 by
    bilinear sampling without antialiasing, corners not aligned. (torchvision normalises before it resizes; the sampling
    is linear with weights that sum to 1, so the order matters only to float rounding.)
    """
    if how == "pil":
        return resize_like_pil(image, size)
    if how == "cv2":
        return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float()
    if image.shape[:2] != size:
        pixels = F.interpolate(pixels[None], size=size, mode="bilinear", align_corners=False)[0]
    return pixels.numpy().transpose(1, 2, 0)


def flip_horizontal(image: np.ndarray) -> np.ndarray:
    """Mirror an [H, W, 3] image left to right."""
    rows = image.transpose(0, 2, 1)  # where that is the order in memory, as after a resize, each row is three lines
    if rows.flags.c_contiguous:
        return cv2.flip(rows.reshape(-1, rows.shape[2]), 1).reshape(rows.shape).transpose(0, 2, 1)
    return cv2.flip(image, 1)


def prepare_for_test(image: np.ndarray, config: InputConfig) -> np.ndarray:
    """Original image [H, W, 3] uint8 → input image of the network, uint8, or float32 where `config.resize` says so."""
    size = (image.shape[0], image.shape[1])
    return resize(image, resized_size(size, config.min_size_test, config.max_size_test, config.resize), config.resize)


def prepare_target(sample: Sample, input_size: Size, original_size: Size) -> Target:
    """The boxes of a sample in the frame of its unaugmented input image; crowd boxes left out, the rest clipped."""
    kept = ~sample.iscrowd
    boxes = torch.from_numpy(sample.boxes[kept])
    boxes = box_geometry.rescale(boxes, original_size, input_size)
    return _target(boxes, torch.from_numpy(sample.labels[kept]), input_size)


class TrainTransform:
    """Turns an original image and its sample into an input image and its target: a pure function of a generator.

    In this order: crop, vertical flip, colour jitter and named transforms where configured, a shortest edge chosen from
    `input.min_size_train`, horizontal flip. Boxes stay float64 until the end.

    Raises:
        UserError: `data.augment.transforms` names what cannot be used.
    """

    def __init__(self, input_config: InputConfig, augment: AugmentConfig) -> None:
        self.input = input_config
        self.augment = augment
        self.named = NamedTransforms(augment.transforms) if augment.transforms else None

    def __call__(self, image: np.ndarray, sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, Target]:
        """Transform one picture.

        Args:
            image: [H, W, 3] uint8 RGB, the original image.
            sample: its annotations, in the frame of the original image.
            rng: decides everything random; the same state gives the same result.

        Returns:
            The input image, [H', W', 3] uint8, or float32 for torchvision's resize, and its target: boxes moved with
            the image and clipped to it, without crowd boxes and without boxes that are gone.
        """
        kept = ~sample.iscrowd
        boxes, labels = torch.from_numpy(sample.boxes[kept]), torch.from_numpy(sample.labels[kept])
        # Every decision is drawn, also at probability 0, so that changing one setting leaves the others' draws alone.
        crop, flip_y, jitter, flip_x = rng.random(4)
        min_size = self.input.min_size_train[int(rng.integers(len(self.input.min_size_train)))]
        crop_rng, jitter_rng, named_rng = rng.spawn(3)

        if crop < self.augment.crop:
            image, boxes, labels = random_crop(image, boxes, labels, self.augment.crop_min_scale, crop_rng)
        if flip_y < self.augment.vertical_flip:
            image = cv2.flip(image, 0)
            boxes = box_geometry.flip_vertical(boxes, image.shape[0])
        if jitter < self.augment.color_jitter:
            image = jitter_color(image, self.augment, jitter_rng)
        if self.named is not None:
            image, boxes, labels = self.named(image, boxes, labels, named_rng)
        size = (image.shape[0], image.shape[1])
        input_size = resized_size(size, min_size, self.input.max_size_train, self.input.resize)
        image = resize(image, input_size, self.input.resize)
        boxes = box_geometry.rescale(boxes, size, input_size)
        if flip_x < self.augment.horizontal_flip:
            image = flip_horizontal(image)
            boxes = box_geometry.flip_horizontal(boxes, input_size[1])
        return image, _target(boxes, labels, input_size)


def _target(boxes: Tensor, labels: Tensor, size: Size) -> Target:
    boxes = box_geometry.clip(boxes, size).float()
    present = box_geometry.is_larger_than(boxes, MIN_BOX_SIDE)
    return Target(boxes[present], labels[present])
