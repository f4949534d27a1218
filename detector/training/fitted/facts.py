"""What a recipe is fitted to: numbers of the training pictures and their boxes."""

from dataclasses import dataclass

import numpy as np

from detector.datasets.dataset import DetectionDataset
from detector.datasets.pictures.read import ImageError, image_size
from detector.structures import Size

_FEW = 10  # boxes of a class


@dataclass(frozen=True)
class Facts:
    """Numbers of a set.

    pictures: how many. sizes: [B, 2] float64 (height, width) of the picture that each box is in, and boxes: [B, 2]
    float64 (height, width) of the box, in pixels of the files: boxes that are no crowds, in pictures of known size.
    labels: [B] int64, 1..K, of those boxes.
    shortest, longest: medians of the pictures' edges, 0 where no size is known. names: of the classes. per_class: boxes
    of each. val_pictures: how many it is scored on, 0 without. fullest: boxes of a picture
    that 99 of 100 do not exceed.
    """

    pictures: int
    sizes: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    shortest: float
    longest: float
    names: tuple[str, ...]
    per_class: tuple[int, ...]
    val_pictures: int = 0
    fullest: int = 0

    def small(self) -> "Small | None":
        """How small boxes get: nine of ten of a class are larger, in nine of ten classes; the class at that limit.

        AP is a mean over classes, so a small class with few boxes counts as much as a large one with many. Classes of
        fewer than ten boxes say too little, unless there are no others. None without boxes.
        """
        edges = np.sqrt(self.boxes.prod(axis=1))
        known = self._known_classes()
        if len(known) == 0:
            return None
        tenths = [float(np.quantile(edges[self.labels == label], 0.1)) for label in known]
        index = int(np.argsort(tenths)[(len(tenths) - 1) // 10])
        label = int(known[index])
        return Small(tenths[index], float(np.median(edges[self.labels == label])), self.names[label - 1])

    def variety(self) -> float | None:
        """How much the sizes within a class vary: how many times the largest tenth's size is the smallest tenth's.

        Sizes are square roots of areas in pictures resized to one shortest edge. The median over classes, of which
        those of fewer than ten boxes say too little, unless there are no others. None without boxes.
        """
        edges = np.sqrt(self.boxes.prod(axis=1)) / self.sizes.min(axis=1)
        tenths = [np.quantile(edges[self.labels == label], (0.1, 0.9)) for label in self._known_classes()]
        return float(np.median([largest / smallest for smallest, largest in tenths])) if tenths else None

    def _known_classes(self) -> np.ndarray:
        labels, counts = np.unique(self.labels, return_counts=True)
        return labels[counts >= _FEW] if (counts >= _FEW).any() else labels


@dataclass(frozen=True)
class Small:
    """edge: square root of the area that nine of ten boxes of a class exceed, and median: half of them; name: its."""

    edge: float
    median: float
    name: str


def facts_of(dataset: DetectionDataset, val: DetectionDataset | None = None) -> Facts:
    """The numbers of a training set and of what it is scored on.

    Sizes that the annotations do not state are read from the pictures' headers.
    """
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
        labels=dataset.labels[usable],
        shortest=float(np.median(known.min(axis=1))) if len(known) else 0.0,
        longest=float(np.median(known.max(axis=1))) if len(known) else 0.0,
        names=tuple(dataset.categories.names),
        per_class=tuple(counts.tolist()),
        val_pictures=0 if val is None else len(val),
        fullest=round(float(np.quantile(dataset.object_counts(), 0.99))),
    )


def _size_of(path: str) -> Size:
    """(height, width) of a picture; 0 of one that cannot be read, which training will report."""
    try:
        return image_size(path)
    except ImageError:
        return 0, 0
