"""Anchors that fit a set's boxes: how many boxes have one of their size and shape, and a proposal that has more."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from detector.datasets.pictures.sizes import ResizeKind, resized_size

SIZES, RATIOS = (32.0, 64.0, 128.0, 256.0, 512.0), (0.5, 1.0, 2.0)
_ROUNDS = 30  # of k-means, and of moving one number
_STEPS = (0.8, 0.9, 0.95, 1.05, 1.1, 1.25)  # of a number that is moved
_STARTS = 3  # guesses that are improved
_SEARCHED = 8000  # boxes, about, that guesses are judged by, shared among the classes
_LEAST_SEARCHED = 20  # of a class

_Guess = tuple[tuple[float, ...], tuple[float, ...]]  # sizes and ratios


@dataclass(frozen=True)
class Anchors:
    """Sizes (square roots of areas, pixels of the input image) and ratios (height / width), and how well they fit.

    recall50, recall70: the share of the boxes that have an anchor with an IoU of 0.5 and 0.7 or more, if it lay right
    on them. mean: of the best IoUs.
    """

    sizes: tuple[float, ...]
    ratios: tuple[float, ...]
    recall50: float
    recall70: float
    mean: float


def resized_boxes(boxes: np.ndarray, sizes: np.ndarray, shortest: int, longest: int, how: ResizeKind) -> np.ndarray:
    """Boxes [B, 2] (height, width) in pictures of `sizes` [B, 2], in pixels of the input image at test size."""
    if len(boxes) == 0:
        return boxes
    distinct, inverse = np.unique(sizes, axis=0, return_inverse=True)
    resized = [resized_size((int(h), int(w)), shortest, longest, how) for h, w in distinct.tolist()]
    scales = (np.array(resized) / distinct)[inverse.reshape(-1)]
    scaled: np.ndarray = boxes * scales
    return scaled


def fit_of(boxes: np.ndarray, sizes: Sequence[float], ratios: Sequence[float]) -> Anchors:
    """How well anchors fit boxes [B, 2] (height, width), pixels of the input image."""
    if len(boxes) == 0:
        return Anchors(tuple(sizes), tuple(ratios), 1.0, 1.0, 1.0)
    best = _best_ious(boxes, sizes, ratios)
    recalls = float(np.mean(best >= 0.5)), float(np.mean(best >= 0.7))
    return Anchors(tuple(sizes), tuple(ratios), *recalls, float(best.mean()))


def propose(boxes: np.ndarray, octaves: bool = False, labels: np.ndarray | None = None) -> tuple[Anchors, Anchors]:
    """The defaults, and the anchors that fit best, whose recall is no lower than theirs at either IoU.

    There are as many sizes and ratios as by default, so that trained weights keep their shapes. The best have the
    highest sum of the two recalls and the mean IoU, where every class counts alike, as in AP: from several guesses at
    where the boxes are, one size or ratio after the other is moved as long as that helps.

    Args:
        boxes: [B, 2] float64 (height, width), pixels of the input image.
        octaves: each size is twice the one before, as the levels of a pyramid want it.
        labels: [B] int64, the classes of the boxes. None: all of one class.
    """
    default = fit_of(boxes, SIZES, RATIOS)
    if len(boxes) == 0:
        return default, default
    labels = np.zeros(len(boxes), np.int64) if labels is None else labels
    few = _sampled(labels)
    search = _Search(boxes[few], labels[few], np.bincount(labels), octaves)
    edges, shapes = np.log(np.sqrt(boxes[few].prod(axis=1))), np.log(boxes[few, 0] / boxes[few, 1])
    ratios = [RATIOS, *_ratio_lists(shapes)]
    sizes = [SIZES, *(_octaves() if octaves else _size_lists(edges))]
    guesses = sorted(((s, r) for s in sizes for r in ratios), key=search.score, reverse=True)
    fits = [default, *(fit_of(boxes, *search.improved(guess)) for guess in guesses[:_STARTS])]
    allowed = [fit for fit in fits if fit.recall50 >= default.recall50 and fit.recall70 >= default.recall70]
    return default, max(allowed, key=lambda fit: search.score((fit.sizes, fit.ratios)))


class _Search:
    """Looks for sizes and ratios near others that fit boxes [B, 2] of classes [B] better."""

    def __init__(self, boxes: np.ndarray, labels: np.ndarray, counts: np.ndarray, octaves: bool) -> None:
        """counts: [K] int64, how many boxes of each class these stand for."""
        self.boxes, self.octaves = boxes, octaves
        found = np.bincount(labels)
        self.fair = 1 / np.maximum(found, _LEAST_SEARCHED)[labels]  # a class of few boxes says little
        self.plain = (counts / np.maximum(found, 1))[labels]
        self.least = self._recalls(_best_ious(boxes, SIZES, RATIOS))

    def score(self, guess: _Guess) -> float:
        """The recalls and the mean IoU, summed; less than 0 where a recall is lower than that of the defaults."""
        best = _best_ious(self.boxes, *guess)
        if (self._recalls(best) < self.least - 1e-9).any():
            return float(best.mean()) - 1.0
        return float(np.average((best >= 0.5) + 1.0 * (best >= 0.7) + best, weights=self.fair))

    def _recalls(self, best: np.ndarray) -> np.ndarray:
        return np.array([np.average(best >= iou, weights=self.plain) for iou in (0.5, 0.7)])

    def improved(self, guess: _Guess) -> _Guess:
        """The guess, or a better one that moves of one number at a time lead to."""
        score = self.score(guess)
        for _ in range(_ROUNDS):
            moved = max(self._moves(guess), key=self.score, default=guess)
            if (new := self.score(moved)) <= score + 1e-6:
                break
            guess, score = moved, new
        return guess

    def _moves(self, guess: _Guess) -> list[_Guess]:
        sizes, ratios = guess
        moves: list[_Guess] = []
        for step in _STEPS:
            if self.octaves:
                moves.append((_doubled(sizes[0] * step), ratios))
            else:
                moves += [
                    (_replaced(sizes, i, max(4.0, float(round(sizes[i] * step)))), ratios) for i in range(len(sizes))
                ]
            moves += [(sizes, _replaced(ratios, i, round(ratios[i] * step, 2))) for i in range(len(ratios))]
        return [move for move in moves if _is_sound(*move)]


def _sampled(labels: np.ndarray) -> np.ndarray:
    """[C] int64: ascending rows of boxes of classes [B], evenly chosen from each, no more of one than of another."""
    classes = np.unique(labels)
    most = max(_LEAST_SEARCHED, _SEARCHED // len(classes))
    rows = [np.flatnonzero(labels == label) for label in classes]
    return np.sort(np.concatenate([row[:: -(-len(row) // most)] for row in rows]))


def _best_ious(boxes: np.ndarray, sizes: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """[B] float64: the IoU of each box [B, 2] with the anchor that fits it best, if it lay right on it."""
    best, areas = np.zeros(len(boxes)), boxes.prod(axis=1)
    for size in sizes:
        for ratio in ratios:
            height, width = size * np.sqrt(ratio), size / np.sqrt(ratio)
            shared = np.minimum(boxes[:, 0], height) * np.minimum(boxes[:, 1], width)
            best = np.maximum(best, shared / (areas + size**2 - shared))
    return best


def _replaced(values: tuple[float, ...], index: int, value: float) -> tuple[float, ...]:
    return (*values[:index], value, *values[index + 1 :])


def _doubled(first: float) -> tuple[float, ...]:
    return tuple(float(round(max(4.0, first)) * 2**level) for level in range(len(SIZES)))


def _is_sound(sizes: tuple[float, ...], ratios: tuple[float, ...]) -> bool:
    """Whether sizes ascend by a tenth at least, and ratios ascend within what a setting may be."""
    ascending = all(small * 1.1 <= large for small, large in pairwise(sizes))
    return ascending and all(a < b for a, b in pairwise(ratios)) and ratios[0] >= 0.01 and ratios[-1] <= 100


def _octaves() -> list[tuple[float, ...]]:
    return [_doubled(first) for first in (8, 11, 16, 23, 32, 45, 64)]


def _size_lists(edges: np.ndarray) -> list[tuple[float, ...]]:
    lists = []
    for low, high in ((0.0, 1.0), (0.01, 0.99), (0.05, 0.95)):
        smallest, largest = np.quantile(edges, (low, high)).tolist()
        lists.append(np.linspace(smallest, largest, 2 * len(SIZES) + 1)[1::2])
    lists.append(_means(edges, len(SIZES)))
    return [spaced for values in lists if len(spaced := _spaced(np.exp(values))) == len(SIZES)]


def _ratio_lists(shapes: np.ndarray) -> list[tuple[float, ...]]:
    found = [tuple(round(float(value), 2) for value in np.exp(_means(shapes, len(RATIOS))))]
    middle = float(np.exp(np.median(shapes)))
    found += [tuple(round(middle * step**power, 2) for power in (-1, 0, 1)) for step in (1.4, 2.0)]
    return [
        ratios for ratios in found if len(set(ratios)) == len(RATIOS) and min(ratios) >= 0.01 and max(ratios) <= 100
    ]


def _spaced(values: np.ndarray) -> tuple[float, ...]:
    """Ascending sizes in whole pixels, each at least a tenth larger than the one before."""
    sizes: list[float] = []
    for value in sorted(values.tolist()):
        least = 4.0 if not sizes else sizes[-1] * 1.1
        sizes.append(float(np.ceil(least) if value < least else round(value)))
    return tuple(sizes)


def _means(values: np.ndarray, count: int) -> np.ndarray:
    """Ascending centres of `count` clusters of numbers, from the quantiles on: the same for the same numbers."""
    centres = np.quantile(values, (np.arange(count) + 0.5) / count)
    for _ in range(_ROUNDS):
        nearest = np.abs(values[:, None] - centres).argmin(axis=1)
        sums, members = np.bincount(nearest, values, count), np.bincount(nearest, minlength=count)
        moved = np.where(members > 0, sums / np.maximum(members, 1), centres)
        if np.allclose(moved, centres):
            break
        centres = moved
    return np.sort(centres)
