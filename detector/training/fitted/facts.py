"""What a recipe is fitted to: numbers of the training pictures and their boxes."""

from dataclasses import dataclass

import numpy as np

from detector.datasets.dataset import DetectionDataset


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
    """The numbers of a training set."""
    owners = np.repeat(np.arange(len(dataset)), dataset.box_counts())
    low, high = dataset.boxes[:, :2], dataset.boxes[:, 2:]
    limits = np.where(dataset.sizes > 0, dataset.sizes, np.inf)[owners][:, ::-1]
    extents = (np.minimum(high, limits) - np.maximum(low, 0))[:, ::-1]  # height, width
    usable = ~dataset.iscrowd & (dataset.sizes[owners] > 0).all(axis=1) & (extents > 0).all(axis=1)
    known = dataset.sizes[(dataset.sizes > 0).all(axis=1)]
    labels = dataset.labels[~dataset.iscrowd]
    counts = np.bincount(labels, minlength=len(dataset.categories) + 1)[1:]
    return Facts(
        pictures=len(dataset),
        sizes=dataset.sizes[owners][usable].astype(np.float64),
        boxes=extents[usable],
        shortest=float(np.median(known.min(axis=1))) if len(known) else 0.0,
        longest=float(np.median(known.max(axis=1))) if len(known) else 0.0,
        names=tuple(dataset.categories.names),
        per_class=tuple(counts.tolist()),
    )
