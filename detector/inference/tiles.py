"""Pictures larger than the network sees at once: tile by tile, and a look at the whole, merged into one answer.

This file says where the tiles lie and has them looked at; `tile_merging.py` decides which of their detections are one
object; `detector.datasets.pictures.windows` reads a tile without the rest of the picture where the format allows it.
"""

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from tqdm import tqdm

from detector.boxes import rescale
from detector.categories import CategoryMap
from detector.config import Config, InputConfig
from detector.datasets.dataset import DetectionDataset
from detector.datasets.pictures.windows import DecodedWindows, Window, Windows, open_windows, reduce_by
from detector.errors import UserError
from detector.inference.augmented import Augment
from detector.inference.batches import in_batches
from detector.inference.detections import Detections
from detector.inference.sources import Channels, GivenPicture, Picture
from detector.inference.tile_merging import WindowDetections, merge
from detector.structures import Size

DRAWN_PIXELS = 30_000_000  # of the picture that detections are drawn on: a larger one is shrunk for it

Detect = Callable[[Sequence[np.ndarray]], list[Detections]]  # pictures [H, W, 3] uint8 RGB to the detections of each


class FindsObjects(Protocol):
    """All that tiles need of a `Predictor`."""

    config: Config
    categories: CategoryMap

    def predict(
        self, source: list[Any], score_threshold: float, batch_size: int, *, augment: Augment
    ) -> list[Detections]:
        """Detect in arrays [H, W, 3] uint8 RGB."""


@dataclass(frozen=True)
class Tiling:
    """How a picture is cut into tiles.

    size: edge of a tile, pixels of the original image. overlap: of neighbouring tiles, as a share of the edge; an
    object smaller than the overlap is whole in at least one of them.
    """

    size: int
    overlap: float = 0.2

    def __post_init__(self) -> None:
        if self.size < 16:
            raise UserError(f"a tile of {self.size} pixels is too small; choose 16 or more.")
        if not 0 <= self.overlap <= 0.9:
            raise UserError(f"tiles cannot overlap by {self.overlap:g}; choose 0 to 0.9.")

    def windows(self, picture: Size) -> list[Window]:
        """Where the tiles of a picture lie, row by row; none where one tile would hold all of it.

        All have the full size: those at the right and the bottom are moved inward. Along an edge shorter than a tile
        there is one, as long as that edge.
        """
        if max(picture) <= self.size:
            return []
        tops, lefts = (self._starts(edge) for edge in picture)
        height, width = (min(edge, self.size) for edge in picture)
        return [Window(top, left, height, width) for top, left in product(tops, lefts)]

    def _starts(self, edge: int) -> list[int]:
        step = max(1, math.floor(self.size * (1 - self.overlap)))
        last = max(0, edge - self.size)
        return [*range(0, last, step), last]


def detect_in_tiles(
    picture: Windows,
    given: GivenPicture | None,
    tiling: Tiling,
    detect: Detect,
    categories: CategoryMap,
    nms_threshold: float,
    batch_size: int = 1,
    longest: int = 0,
) -> Detections:
    """Detect in a picture tile by tile and as a whole.

    Args:
        picture: to be read window by window.
        given: the picture that the detections will refer to, for drawing.
        tiling: where the tiles lie.
        detect: detects in pictures of any size, such as `Predictor.predict`; empty `Detections` where it finds nothing.
            It must not drop unsure detections: the score of an object is the mean over the tiles that saw it.
        categories: what the labels mean.
        nms_threshold: IoU above which two detections of a class are one object.
        batch_size: tiles that are read and looked at together.
        longest: pixels of the longest edge that the network resizes pictures to; 0: it does not resize. The look at the
            whole picture gets at least as many, and twice as many as a tile has, where the picture has them.

    Returns:
        The detections of tiles and whole picture, merged class by class, in the frame of the original image; where one
        tile would hold the picture, exactly the detections of the whole. There may be more of them than the network
        gives for one picture.
    """
    size = picture.size
    windows = tiling.windows(size)
    all_of_it = Window(0, 0, *size)
    if not windows:
        (whole,) = detect([picture.read(all_of_it)])
        return Detections(whole.boxes, whole.scores, whole.labels, size, categories, given)
    (whole,) = detect([picture.reduced(max(2 * tiling.size, longest))])
    boxes = rescale(whole.boxes, whole.image_size, size)
    by_window = [WindowDetections(all_of_it, boxes, whole.scores, whole.labels)]
    for some in in_batches(windows, batch_size):
        for window, one in zip(some, detect([picture.read(window) for window in some]), strict=True):
            shift = torch.tensor([window.left, window.top] * 2, dtype=one.boxes.dtype)
            by_window.append(WindowDetections(window, one.boxes + shift, one.scores, one.labels))
    boxes, scores, labels = merge(by_window, size, nms_threshold)
    return Detections(boxes, scores, labels, size, categories, given)


def predict_tiled(
    predictor: FindsObjects,
    source: Picture,
    tiling: Tiling,
    score_threshold: float,
    batch_size: int,
    channels: Channels = "rgb",
    augment: Augment = None,
) -> Detections:
    """What `Predictor.predict` returns for one picture with tiles; raises UserError as it does."""
    settings = predictor.config.input
    given = GivenPicture(source, channels, most_pixels(settings), settings.bit_depth)
    return _predict(predictor, open_picture(given), given, tiling, score_threshold, batch_size, augment)


def detect_files_tiled(
    predictor: FindsObjects,
    paths: Sequence[Path],
    tiling: Tiling,
    score_threshold: float,
    batch_size: int,
    augment: Augment = None,
) -> Generator[UserError | tuple[np.ndarray, Detections], None, None]:
    """Yield, for each path, a picture to draw on and its detections, or why it was not read: `read_ahead.detect_all`.

    The picture is a smaller one where it has more than `DRAWN_PIXELS`; `fitted` brings detections to its size.
    """
    settings = predictor.config.input
    for path in paths:
        try:
            given = GivenPicture(path, "rgb", most_pixels(settings), settings.bit_depth)
            picture = open_picture(given)
            detections = _predict(predictor, picture, given, tiling, score_threshold, batch_size, augment)
            height, width = picture.size
            factor = math.ceil(math.sqrt(height * width / DRAWN_PIXELS))
            yield reduce_by(picture, max(1, factor)), detections
        except UserError as error:
            yield error


def detect_dataset_tiled(
    predictor: FindsObjects,
    dataset: DetectionDataset,
    numbers: Sequence[int],
    tiling: Tiling,
    categories: CategoryMap,
    batch_size: int,
    augment: Augment = None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Detect in pictures of a dataset, as `detect.detect_dataset` does, with tiles.

    Args:
        numbers: of the pictures, in the dataset.
        categories: which turn the model's labels into the dataset's category ids.
        augment: as for `Predictor.predict`.
        progress: show a bar.

    Raises:
        UserError: a picture cannot be read.
    """
    results: list[dict[str, Any]] = []
    for number in tqdm(numbers, desc="detecting", unit="picture", disable=not progress):
        detections = predict_tiled(predictor, dataset.path(number), tiling, 0.0, batch_size, augment=augment)
        results += replace(detections, categories=categories).to_coco(dataset[number].image_id)
    return results


def fitted(detections: Detections, size: Size) -> Detections:
    """The detections in a picture of another size, such as a smaller copy; as they are where it is the same."""
    if detections.image_size == size:
        return detections
    return replace(detections, boxes=rescale(detections.boxes, detections.image_size, size), image_size=size)


def open_picture(given: GivenPicture) -> Windows:
    """The windows of any form of a picture. Raises UserError where it cannot be read."""
    if isinstance(given.source, (str, Path, bytes)):
        return open_windows(given.source, given.max_pixels, given.bit_depth)
    return DecodedWindows(given.rgb())


def _predict(
    predictor: FindsObjects,
    picture: Windows,
    given: GivenPicture,
    tiling: Tiling,
    score_threshold: float,
    batch_size: int,
    augment: Augment,
) -> Detections:
    """The detections of a picture that is open; they refer to `given`."""
    settings = predictor.config.input
    detections = detect_in_tiles(
        picture,
        given,
        tiling,
        lambda pictures: predictor.predict(list(pictures), 0.0, batch_size, augment=augment),  # unsure ones count too
        predictor.categories,
        predictor.config.model.detection.nms_threshold,
        batch_size,
        settings.max_size_test if settings.min_size_test else 0,
    )
    return detections.at_least(score_threshold)


def most_pixels(settings: InputConfig) -> int:
    """How large a picture with tiles may be: as large as its setting says, and at the default four times that.

    The network never sees such a picture at once, so its memory is the picture's own, three bytes a pixel.
    """
    usual = InputConfig().max_pixels
    return 4 * usual if settings.max_pixels == usual else settings.max_pixels
