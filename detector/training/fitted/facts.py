"""What a recipe is fitted to: numbers of the training pictures and their boxes."""

from dataclasses import dataclass

import numpy as np

from detector.datasets.dataset import DetectionDataset
from detector.datasets.pictures.read import ImageError, image_size
from detector.structures import Size


@dataclass(frozen=True)
class Facts:
    """Numbers of a set.

    pictures: how many. sizes: [B, 2] float64 (height, width) of the picture that each box is in, and boxes: [B, 2]
    float64 (height, width) of the box, in pixels of the files: boxes that are no crowds, in pictures of known size.
    shortest, longest: medians of the pictures' edges, 0 where no size is known. names: of the classes. per_class: boxes
    of each.
    """

    pictures: int
    sizes: np.ndarray
    boxes: np.ndarray
    shortest: float
    longest: float
    names: tuple[str, ...]
    per_class: tuple[int, ...]

    @property
    def edges(self) -> np.ndarray:
        """[B] float64: square roots of the boxes' areas."""
        return np.sqrt(self.boxes.prod(axis=1))


def facts_of(dataset: DetectionDataset) -> Facts:
    """The numbers of a training set. Sizes that the annotations do not state are read from the pictures' headers."""
    owners = np.repeat(np.arange(len(dataset)), dataset.box_counts())
    low, high = dataset.boxes[:, :2], dataset.boxes[:, 2:]
    sizes = np.array([dataset.size(index) or _size_of(dataset.path(index)) for index in range(len(dataset))])
    limits = np.where(sizes > 0, sizes, np.inf)[owners][:, ::-1]
    extents = (np.minimum(high, limits) - np.maximum(low, 0))[:, ::-1]  # height, width
    usable = ~dataset.iscrowd & (sizes[owners] > 0).all(axis=1) & (extents > 0).all(axis=1)
    known = sizes[(sizes > 0).all(axis=1)]
    labels = dataset.labels[~dataset.iscrowd]
    counts = np.bincount(labels, minlength=len(dataset.categories) + 1)[1:]
    return Facts(
        pictures=len(dataset),
        sizes=sizes[owners][usable].astype(np.float64),
        boxes=extents[usable],
        shortest=float(np.median(known.min(axis=1))) if len(known) else 0.0,
        longest=float(np.median(known.max(axis=1))) if len(known) else 0.0,
        names=tuple(dataset.categories.names),
        per_class=tuple(counts.tolist()),
    )


def _size_of(path: str) -> Size:
    """(height, width) of a picture; 0 of one that cannot be read, which training will report."""
    try:
        return image_size(path)
    except ImageError:
        return 0, 0
