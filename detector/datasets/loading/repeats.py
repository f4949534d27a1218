"""How often an epoch shows each picture, where rare classes are to be seen more often (LVIS, appendix B.2)."""

import numpy as np

from detector.datasets.dataset import DetectionDataset


def repeat_factors(dataset: DetectionDataset, threshold: float) -> np.ndarray:
    """[N] float64, 1 or more: how often an epoch shows each picture in the mean.

    A class that a share f of the pictures shows gets the factor √(threshold / f) where that is above 1; a picture has
    the largest one of its classes. Crowd regions do not count.

    Args:
        threshold: the share of pictures that a class must be in to be seen no more often than it is.
    """
    images = np.repeat(np.arange(len(dataset)), dataset.box_counts())[~dataset.iscrowd]
    labels = dataset.labels[~dataset.iscrowd]
    classes = len(dataset.categories) + 1
    pairs = np.unique(images * classes + labels)
    shares = np.bincount(pairs % classes, minlength=classes) / max(len(dataset), 1)
    with np.errstate(divide="ignore"):
        of_class = np.maximum(1.0, np.sqrt(threshold / shares))
    factors = np.ones(len(dataset))
    np.maximum.at(factors, pairs // classes, of_class[pairs % classes])
    return factors


def describe_repeats(dataset: DetectionDataset, factors: np.ndarray) -> str:
    """How often an epoch shows each class's boxes, beside how many there are; one line for classes that gain."""
    counts = dataset.box_counts()
    weight = np.repeat(factors, counts)[~dataset.iscrowd]
    labels = dataset.labels[~dataset.iscrowd]
    names = dataset.categories.names
    before = np.bincount(labels, minlength=len(names) + 1)[1:]
    after = np.bincount(labels, weights=weight, minlength=len(names) + 1)[1:]
    gains = [
        f"{name} {count} → {seen:.0f}"
        for name, count, seen in zip(names, before.tolist(), after.tolist(), strict=True)
        if seen > 1.05 * count
    ]
    shown = ", ".join(gains[:20]) + (f" and {len(gains) - 20} classes more" if len(gains) > 20 else "")
    return (
        f"pictures with rare classes are shown more often: an epoch has {factors.sum():.0f} pictures instead of "
        f"{len(factors)}; boxes seen: {shown or 'no class is rare'}"
    )
