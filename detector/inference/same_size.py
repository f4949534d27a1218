"""Pictures whose network inputs have the same size go through the network together, and no others.

Padding to one size would change the numbers a little: features near the border, and anchors in the padding.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from detector.arithmetic import Precision, float32_products
from detector.categories import CategoryMap
from detector.config import InputConfig
from detector.datasets.loading.batch import make_batch
from detector.datasets.pictures.transforms import prepare_for_test
from detector.errors import UserError
from detector.inference.augmented import Detecting
from detector.inference.batches import in_batches_alike
from detector.inference.detections import Detections
from detector.inference.sources import Channels, GivenPicture, Picture, named
from detector.structures import Size


class Prepared(NamedTuple):
    """A picture as the network takes it.

    pixels: the input image, [H, W, 3] RGB. size: (height, width) of the original image. given: the original image.
    """

    pixels: np.ndarray
    size: Size
    given: GivenPicture


def prepare(
    sources: Sequence[Picture], channels: Channels, reading: InputConfig, preparing: InputConfig
) -> Iterator[Prepared]:
    """Read pictures one by one, and resize each for the network.

    Args:
        sources: the pictures.
        channels: the order of colours in arrays and tensors.
        reading: the settings by which files are read (limit of pixels, bit depth).
        preparing: the settings by which pictures are resized.

    Raises:
        UserError: while iterating, where a picture cannot be read or is of another form; the message says which.
    """
    for number, source in enumerate(sources):
        given = GivenPicture(source, channels, reading.max_pixels, reading.bit_depth)
        with named(source, number, len(sources)):
            image = given.rgb()
        yield Prepared(prepare_for_test(image, preparing), (image.shape[0], image.shape[1]), given)


def detect_alike(
    detecting: Detecting,
    pictures: Iterator[Prepared],
    batch_size: int,
    categories: CategoryMap,
    device: torch.device,
    precision: Precision,
) -> Iterator[Detections]:
    """The detections of each picture in turn. Neighbours of one size go through the network together.

    Args:
        detecting: the network, and how its pictures are prepared.
        pictures: as `prepare` makes them.
        batch_size: how many of them go through the network together at most.
        categories: what the network's labels mean.
        device: the one that the network is on.
        precision: how a GPU multiplies the network's float32 tensors.

    Raises:
        UserError: the device has not enough memory.
    """
    for alike in in_batches_alike(pictures, batch_size, key=lambda one: one.pixels.shape):
        pixels, sizes, given = zip(*alike, strict=True)
        batch = make_batch(list(pixels), list(sizes), list(range(len(alike))), detecting.input.pad_to_multiple)
        try:
            # Around the network alone: a caller could not change tensors that are made in inference mode.
            with torch.inference_mode(), float32_products(precision):
                selections = detecting.network(batch.to(device))
        except torch.OutOfMemoryError:
            raise UserError(
                f"{device} does not have enough memory for {len(alike)} pictures of {batch.sizes[0]}; lower the batch "
                "size, or input.min_size_test and input.max_size_test in the config."
            ) from None
        for selection, size, original, picture in zip(selections, batch.sizes, sizes, given, strict=True):
            yield Detections.of_selection(selection, size, original, categories, picture)
