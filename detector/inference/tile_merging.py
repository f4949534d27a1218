"""Which detections of overlapping windows are the same object, which box it gets, and how sure one is of it.

*What is one object.* Two boxes of a class from different windows that overlap like duplicates (IoU) are one object, as
in NMS. A box that ends where its window ends, inside the picture, is *cut*: it shows a *part* of an object. A part
belongs to a box that holds at least half of it. Two parts belong together where one holds half of the other, or where
they agree in the area that both windows saw; joined parts get the box around them. Whole boxes come before parts, so
that a part never takes the place of the object.

*The look at the whole picture* is for objects that no tile shows whole. It shows things smaller than tiles do, perhaps
smaller than the network was trained on, so tiles have precedence: its detections are left out where a tile shows all of
the object, its boxes come after the whole boxes of tiles, and a part that is surer than such a box belongs to it only
where the tile saw just that part of it. Where the parts of such an object make up nearly the same box, theirs is taken,
since tiles saw it larger.

*The score* of an object is the mean of what the windows that saw it say, and a window that saw it without detecting it
says 0 (as in weighted box fusion, Solovyev et al. 2021). Every window is one more chance to see what is not there, so
the surest of several would be too sure. Which windows are asked:

- an object that tiles show whole: these tiles. Its box is the mean of theirs, weighted by score; parts do not count;
- an object joined of parts: the tiles that found these, and others that saw half of it or more, each weighted by the
  share that it saw;
- an object that the whole picture alone shows whole: the whole picture, and the tiles that found parts of it. That
  other tiles do not recognise the inside of a large object says nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from detector.datasets.pictures.windows import Window
from detector.structures import Size

PICTURE = 0  # the number of the window that is the whole picture; tiles are 1, 2, …
PART = 0.5  # share of its area that a part has in common with what it belongs to
SURE_ENOUGH = 0.5  # share of the surest part's score that another must have to move the object's box
COARSE = 0.6  # times the usual IoU makes a duplicate of a box of the whole picture: these boxes are less exact
# A box counts as cut this near to its window's border: a share of the window's edge, but two pixels at least, or a
# share of the box's own edge, since no box is more exact than that.
NEAR_BORDER, INEXACT = 0.01, 0.05
LEAST = 1e-9  # in place of a divisor of 0


class WindowDetections(NamedTuple):
    """The detections in one window: boxes [D, 4] in pixels of the original image, scores [D], labels [D]."""

    window: Window
    boxes: Tensor
    scores: Tensor
    labels: Tensor


class ClassDetections(NamedTuple):
    """D detections of one class in all windows, in the order in which they claim others as the same object.

    First come whole boxes of tiles, then those of the whole picture, then parts; of each kind the surest first.

    boxes: [D, 4]. scores: [D]. cut: [D] bool, which are parts. origin: [D], the number of each one's window.
    """

    boxes: np.ndarray
    scores: np.ndarray
    cut: np.ndarray
    origin: np.ndarray


def merge(by_window: Sequence[WindowDetections], picture: Size, nms_threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """The objects that windows of one picture show together.

    Args:
        by_window: the whole picture's detections, then each tile's; no two of one window are of the same object.
        picture: (height, width) of the original image.
        nms_threshold: IoU above which two detections of a class are one object.

    Returns:
        boxes [D, 4], scores [D], descending, and labels [D].
    """
    whole, *tiles = by_window
    by_window = [unseen_by_tiles(whole, [one.window for one in tiles], picture), *tiles]
    boxes = torch.cat([one.boxes for one in by_window]).double().numpy()
    scores = torch.cat([one.scores for one in by_window]).double().numpy()
    labels = torch.cat([one.labels for one in by_window]).numpy()
    windows = np.array([corners(one.window) for one in by_window], np.float64)
    origin = np.repeat(np.arange(len(by_window)), [len(one.scores) for one in by_window])
    cut = is_cut(boxes, windows[origin], picture)
    turn = np.where(cut, 2, origin == PICTURE)  # the order of `ClassDetections`
    kept_boxes, kept_rows, kept_scores = [], [], []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.lexsort((rows, -scores[rows], turn[rows]))]  # by turn, then the surest first
        detections = ClassDetections(boxes[rows], scores[rows], cut[rows], origin[rows])
        for box, group in objects(detections, windows, nms_threshold):
            box, score = judged(box, ClassDetections(*(column[group] for column in detections)), windows, picture)
            kept_boxes.append(box)
            kept_rows.append(rows[group[0]])
            kept_scores.append(score)
    order = np.lexsort((kept_rows, -np.array(kept_scores, np.float64)))
    merged = torch.from_numpy(np.array(kept_boxes, np.float64).reshape(-1, 4)[order]).float()
    chosen = np.array(kept_rows, np.int64)[order]
    return merged, torch.from_numpy(np.array(kept_scores, np.float32)[order]), torch.from_numpy(labels[chosen])


def objects(
    detections: ClassDetections, windows: np.ndarray, nms_threshold: float
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The objects of one class: the box [4] of each, and the indices of its detections, in their order.

    windows: [W, 4], the corners of the windows.
    """
    boxes, scores, cut, origin = detections
    of_window = [np.flatnonzero(origin == number) for number in range(len(windows))]
    free = np.ones(len(boxes), bool)
    result = []
    for first in range(len(boxes)):
        if not free[first]:
            continue
        free[first] = False
        box, group = boxes[first].copy(), [first]
        while True:
            new = np.flatnonzero(area(intersection(windows, box)) > 0)  # the windows that show something of it,
            new = new[~np.isin(new, origin[group])]  # and have not contributed to it yet
            others = np.concatenate([of_window[number] for number in new], dtype=np.int64) if len(new) else new
            others = np.sort(others[free[others]])
            own = BoxInWindow(box, bool(cut[first]), windows[origin[first]])
            surer = scores[others] > scores[first] if origin[first] == PICTURE else np.zeros(len(others), bool)
            coarse = (origin[others] == PICTURE) | (origin[first] == PICTURE)
            limits = np.where(coarse, COARSE * nms_threshold, nms_threshold)
            same = others[is_same(own, boxes[others], cut[others], windows[origin[others]], limits, surer)]
            if not len(same):
                break
            free[same] = False
            group += same.tolist()
            grows = same[SURE_ENOUGH * scores[first] <= scores[same]]
            if not cut[first] or not len(grows):
                break
            box = around(boxes[grows], box)
        if origin[first] == PICTURE and len(group) > 1:
            box = finer(box, boxes[group[1:]], scores[group[1:]], nms_threshold)
        result.append((box, np.array(group)))
    return result


def finer(box: np.ndarray, parts: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """The box around the surest of `parts` [P, 4] where it is nearly a box that was seen small; else that box."""
    joined = around(parts[scores >= SURE_ENOUGH * scores.max()])
    shared = area(intersection(box, joined))
    nearly = shared > threshold * (area(box) + area(joined) - shared)
    return joined if nearly else box


def judged(
    box: np.ndarray, detections: ClassDetections, windows: np.ndarray, picture: Size
) -> tuple[np.ndarray, float]:
    """The final box [4] and the score of an object.

    Args:
        box: [4], as `objects` gives it.
        detections: those of the object.
        windows: [W, 4], the corners of the windows.
        picture: (height, width) of the original image.
    """
    whole = ~detections.cut & (detections.origin != PICTURE)
    if whole.any():
        boxes, scores, origin = detections.boxes[whole], detections.scores[whole], detections.origin[whole]
        box = boxes[0] if len(boxes) == 1 else np.average(boxes, axis=0, weights=np.maximum(scores, LEAST))
        weights = shows_whole(box, windows, picture).astype(np.float64)
        weights[PICTURE] = 0
        weights[origin] = 1  # these tiles do show it, even if its averaged box reaches a pixel too far
    else:
        scores, origin = detections.scores, detections.origin
        weights = area(intersection(windows, box)) / max(float(area(box)), LEAST)
        silent = ~np.isin(np.arange(len(windows)), origin)
        weights[silent & ((weights < PART) | (PICTURE in origin))] = 0
        weights[PICTURE] *= PICTURE in origin
    said = np.zeros(len(windows))  # by each window, 0 where it has no detection of the object
    np.maximum.at(said, origin, scores)
    return box, float((weights * said).sum() / max(weights.sum(), LEAST))


class BoxInWindow(NamedTuple):
    """A box [4], whether it is a part, and the corners [4] of the window that it was seen in."""

    box: np.ndarray
    is_part: bool
    window: np.ndarray


def is_same(
    own: BoxInWindow, others: np.ndarray, cut: np.ndarray, windows: np.ndarray, limits: np.ndarray, doubtful: np.ndarray
) -> np.ndarray:
    """Which boxes are the same object as one that comes before them: [D] bool.

    Args:
        own: that one.
        others: [D, 4], seen in other windows.
        cut: [D] bool, which of them are parts.
        windows: [D, 4], the corners of the window of each.
        limits: [D], IoU above which two boxes are the same object, whether parts or not.
        doubtful: [D] bool, for which parts it is not enough to lie in a whole box: the two must also agree in the area
            that both windows saw.
    """
    box = own.box
    shared = area(intersection(box, others))
    mine, theirs = area(box), area(others)
    both_saw = intersection(own.window, windows)
    here, there = intersection(box, both_saw), intersection(others, both_saw)
    with np.errstate(invalid="ignore", divide="ignore"):
        same = shared / (mine + theirs - shared) > limits
        agree = cut & (area(intersection(here, there)) / np.maximum(area(here), area(there)) >= PART)
        if not own.is_part:
            return same | (cut & np.where(doubtful, agree, shared / theirs >= PART))
        return same | agree | (cut & (shared / np.minimum(mine, theirs) >= PART))


def unseen_by_tiles(whole: WindowDetections, tiles: Sequence[Window], picture: Size) -> WindowDetections:
    """The detections of the whole picture whose objects no tile shows whole."""
    boxes = whole.boxes.double().numpy()
    edges = np.array([corners(tile) for tile in tiles], np.float64).reshape(-1, 4)
    kept = torch.tensor([not shows_whole(box, edges, picture).any() for box in boxes], dtype=torch.bool)
    return whole._replace(boxes=whole.boxes[kept], scores=whole.scores[kept], labels=whole.labels[kept])


def shows_whole(box: np.ndarray, windows: np.ndarray, picture: Size) -> np.ndarray:
    """Which windows [W, 4] show all of a box [4] and do not cut it: [W] bool."""
    inside = (box[:2] >= windows[:, :2]).all(axis=1) & (box[2:] <= windows[:, 2:]).all(axis=1)
    result: np.ndarray = inside & ~is_cut(np.broadcast_to(box, windows.shape), windows, picture)
    return result


def is_cut(boxes: np.ndarray, windows: np.ndarray, picture: Size) -> np.ndarray:
    """Which boxes [D, 4] end at a border of their window [D, 4] that is not a border of the picture: [D] bool."""
    height, width = picture
    edges = np.tile(windows[:, 2:] - windows[:, :2], 2)
    near = np.maximum(np.maximum(2.0, NEAR_BORDER * edges), INEXACT * np.tile(boxes[:, 2:] - boxes[:, :2], 2))
    inner = np.concatenate((windows[:, :2] > 0, windows[:, 2:] < np.array([width, height])), axis=1)
    return (inner & (np.abs(boxes - windows) <= near)).any(axis=1)


def intersection(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The box that each pair of boxes has in common, [*, 4]; of no or negative size where there is none."""
    top_left = np.maximum(first[..., :2], second[..., :2])
    return np.concatenate((top_left, np.minimum(first[..., 2:], second[..., 2:])), axis=-1)


def around(boxes: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """The box [4] around boxes [D, 4] and others [4]."""
    boxes = np.concatenate((boxes, *(other[None] for other in others)))
    return np.concatenate((boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)))


def area(boxes: np.ndarray) -> np.ndarray:
    """Areas of boxes [*, 4], 0 where they have none."""
    sides: np.ndarray = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def corners(window: Window) -> tuple[int, int, int, int]:
    """A window as x1, y1, x2, y2."""
    return window.left, window.top, window.left + window.width, window.top + window.height
