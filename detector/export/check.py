"""Whether an exported file finds what the network itself finds: on four sizes, with no, one and many detections.

What takes long is conv5_x on every proposal: half a minute of one core for the thousand of a ResNet-50, however small
the picture, unless it has too few anchors for so many. So one picture is as large as the config has them, and the
others are a few cells large.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
import torch

from detector.config import InputConfig
from detector.datasets.loading.batch import make_batch
from detector.export.formats import Outputs, Runner
from detector.model.faster_rcnn import FasterRCNN
from detector.structures import Selection, Size

BOX_TOLERANCE, SCORE_TOLERANCE = 0.05, 1e-4  # pixels of the input image; scores are in [0, 1]
MANY = 30  # detections that "many" aims at


@dataclass
class Comparison:
    """The check's outcome.

    counts: detections of the network in each pass. worst_box, worst_score: the largest differences. differences: a
    sentence for each pass in which the two disagree.
    """

    counts: list[int]
    worst_box: float
    worst_score: float
    differences: list[str]


def check_sizes(settings: InputConfig, smallest: int) -> list[Size]:
    """Four sizes of input images: what a landscape comes to, a small portrait, a smaller square, nearly the smallest.

    Args:
        smallest: the smallest side that the file takes, in pixels.
    """
    short = max(smallest, settings.min_size_test or 480)
    long = max(smallest, min(short * 4 // 3, settings.max_size_test))
    return [(short, long), (6 * smallest, 4 * smallest), (4 * smallest,) * 2, (smallest, smallest + 5)]


def compare(
    network: FasterRCNN,
    runner: Runner,
    sizes: Sequence[Size],
    pad_to_multiple: int,
    tell: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Run both on a picture of each size with a score threshold that many pass, on the smallest also none and one.

    Args:
        network: the network itself, in evaluation mode, on the CPU.
        runner: the exported file.
        tell: is called with a sentence before each picture.
    """
    outcome = Comparison([], 0.0, 0.0, [])
    smallest = min(sizes, key=lambda size: size[0] * size[1])
    for number, size in enumerate(sizes):
        tell(f"comparing it with the network on {size[0]}×{size[1]} pixels, {number + 1} of {len(sizes)} sizes")
        image = noise(size, seed=number)
        everything = detect(network, image, pad_to_multiple)
        chosen = thresholds(everything.scores.tolist())
        for threshold in chosen if size == smallest else chosen[-1:]:
            expected = scoring_more(everything, threshold)
            given = runner(np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32), threshold)
            box, score, difference = differ(expected, given)
            outcome.counts.append(len(expected))
            outcome.worst_box, outcome.worst_score = max(outcome.worst_box, box), max(outcome.worst_score, score)
            if difference:
                outcome.differences.append(f"{size[0]}×{size[1]}, scores over {threshold:.4f}: {difference}")
    return outcome


def noise(size: Size, seed: int) -> np.ndarray:
    """A picture of coloured clouds, [H, W, 3] uint8."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (size[0] // 24 + 2, size[1] // 24 + 2, 3), dtype=np.uint8)
    return cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)


def detect(network: FasterRCNN, image: np.ndarray, pad_to_multiple: int) -> Selection:
    """The best of what the network itself finds in an input image [H, W, 3], without a threshold for scores."""
    size = (image.shape[0], image.shape[1])
    batch = make_batch([image], [size], [0], pad_to_multiple)
    own = network.detection_settings
    network.detection_settings = replace(own, score_threshold=0.0)
    try:
        with torch.inference_mode():
            (selection,) = network(batch)
    finally:
        network.detection_settings = own
    return selection


def scoring_more(selection: Selection, threshold: float) -> Selection:
    """What the network finds with a score threshold: NMS judges a box by better ones alone, so these stay the same."""
    kept = selection.scores > threshold
    return Selection(selection.boxes[kept], selection.scores[kept], selection.labels[kept])


def thresholds(scores: Sequence[float]) -> list[float]:
    """Score thresholds that none, one and many of these scores pass, where no score is so near that rounding decides.

    Args:
        scores: of what the network finds without a threshold, descending.
    """
    gaps = {rank: above - below for rank, (above, below) in enumerate(pairwise(scores), start=1)}
    chosen = [1] if gaps else []
    chosen += [max((r for r in gaps if r >= min(MANY, len(gaps))), key=lambda rank: gaps[rank])] if gaps else []
    return [1.0, *((scores[r - 1] + scores[r]) / 2 for r in chosen if gaps[r] > 2 * SCORE_TOLERANCE)]


def differ(expected: Selection, given: Outputs) -> tuple[float, float, str]:
    """The largest differences of boxes and scores, and what differs by more than is allowed, in words; "" for nothing.

    The order among scores that agree within the tolerance is free.
    """
    boxes, scores, labels = given
    if len(scores) != len(expected):
        return 0.0, 0.0, f"{len(expected)} detections of the network, {len(scores)} of the file"
    free = np.ones(len(scores), bool)
    worst_box = worst_score = 0.0
    for box, score, label in zip(expected.boxes.numpy(), expected.scores.numpy(), expected.labels.numpy(), strict=True):
        by_box, by_score = np.abs(boxes - box).max(axis=1), np.abs(scores - score)
        same = free & (labels == label) & (by_box <= BOX_TOLERANCE) & (by_score <= SCORE_TOLERANCE)
        if not same.any():
            near = np.where(free & (labels == label), by_box, np.inf)
            best = int(near.argmin())
            how = (
                f"the nearest of that label is {near[best]:.3f} px and {by_score[best]:.1e} in score away"
                if np.isfinite(near[best])
                else "there is none of that label"
            )
            return worst_box, worst_score, f"label {label}, score {score:.4f}: {how}"
        match = int(np.where(same, by_box, np.inf).argmin())
        free[match] = False
        worst_box, worst_score = max(worst_box, float(by_box[match])), max(worst_score, float(by_score[match]))
    return worst_box, worst_score, ""
