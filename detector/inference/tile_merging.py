"""Which detections of overlapping windows are the same object, which box it gets, and how sure one is of it.

Three things tell. Two boxes of a class from different windows that overlap like duplicates (IoU) are one object: NMS. A
box that ends where its window ends, inside the picture, is *cut*: it is a part of an object. A part belongs to a box
that has at least half of it, and two parts belong together where one has half of the other, or where they agree in the
area that both windows saw; parts are joined to the box around them. Whole boxes come before parts, so that a part never
takes the place of the object.

The look at the whole picture is for what no tile shows whole. It shows things smaller than tiles do, perhaps smaller
than the network knows them, so tiles have the say: what it finds where a tile sees clearly is left out, its boxes come
after the whole boxes of tiles, and a part that is surer than such a box belongs to it only where the tile saw just that
part of it. Where the parts of such an object make up a box that is nearly its own, theirs is taken: it was seen larger.

The score of an object is the mean of what the windows that saw it say, and one that saw it and says nothing says 0
(as in weighted box fusion, Solovyev et al. 2021). Every window is one more chance to see what is not there, so the
surest of several would be too sure. Of an object that tiles show whole, these tiles are asked, and its box is the mean
of theirs, weighted by score; parts say nothing. Of one that is joined of parts, tiles are asked that saw half of it or
more, each with the weight of the share that it saw. Of one that the whole picture alone shows whole, it and the tiles
that found parts: that a tile does not know the inside of a large object says nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from detector.datasets.pictures.windows import Window
from detector.structures import Size

PART = 0.5  # of its area that a part shares with what it belongs to: intersection over the smaller
SURE_ENOUGH = 0.5  # of the surest part's score: others do not move its box
WHOLE = 0  # number of the window that is the whole picture, which was seen smaller than in tiles
COARSE = 0.6  # of the usual IoU tells a duplicate there, since its boxes are less exact
NEAR_BORDER = 0.01  # of a window's edge, and two pixels at least: so near to the border a box counts as cut
INEXACT = 0.05  # of a box's own edge: so near it counts as cut too, since no box is more exact
LEAST = 1e-9  # instead of 0, to divide by


class WindowDetections(NamedTuple):
    """What was found in one window: boxes [D, 4] in pixels of the original image, scores [D], labels [D]."""

    window: Window
    boxes: Tensor
    scores: Tensor
    labels: Tensor


class Looks(NamedTuple):
    """D detections of one class by all windows: whole ones first, then the whole picture's, then parts, surest first.

    boxes: [D, 4]. scores: [D]. cut: [D] bool, which are parts. origin: [D], of which window each is.
    """

    boxes: np.ndarray
    scores: np.ndarray
    cut: np.ndarray
    origin: np.ndarray


def merge(parts: Sequence[WindowDetections], picture: Size, nms_threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """The objects that windows of one picture show together.

    Args:
        parts: of each window, of the whole picture first; within one, no two detections are of the same object.
        picture: (height, width) of the original image.
        nms_threshold: IoU above which two detections of a class are one object.

    Returns:
        boxes [D, 4], scores [D], descending, and labels [D].
    """
    parts = [unseen_by_tiles(parts[0], [part.window for part in parts[1:]], picture), *parts[1:]]
    boxes = torch.cat([part.boxes for part in parts]).double().numpy()
    scores = torch.cat([part.scores for part in parts]).double().numpy()
    labels = torch.cat([part.labels for part in parts]).numpy()
    seen = np.array([corners(part.window) for part in parts], np.float64)
    origin = np.repeat(np.arange(len(parts)), [len(part.scores) for part in parts])
    cut = is_cut(boxes, seen[origin], picture)
    turn = np.where(cut, 2, origin == WHOLE)
    kept_boxes, kept_rows, kept_scores = [], [], []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.lexsort((rows, -scores[rows], turn[rows]))]  # of each turn the surest first
        looks = Looks(boxes[rows], scores[rows], cut[rows], origin[rows])
        for box, group in objects(looks, seen, nms_threshold):
            box, score = judged(box, Looks(*(column[group] for column in looks)), seen, picture)
            kept_boxes.append(box)
            kept_rows.append(rows[group[0]])
            kept_scores.append(score)
    order = np.lexsort((kept_rows, -np.array(kept_scores, np.float64)))
    merged = torch.from_numpy(np.array(kept_boxes, np.float64).reshape(-1, 4)[order]).float()
    chosen = np.array(kept_rows, np.int64)[order]
    return merged, torch.from_numpy(np.array(kept_scores, np.float32)[order]), torch.from_numpy(labels[chosen])


def objects(looks: Looks, seen: np.ndarray, nms_threshold: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """The objects of one class: of each its box [4], and the numbers of the detections that are it, the first first.

    seen: [W, 4], the corners of the windows.
    """
    boxes, scores, cut, origin = looks
    of_window = [np.flatnonzero(origin == number) for number in range(len(seen))]
    free = np.ones(len(boxes), bool)
    result = []
    for first in range(len(boxes)):
        if not free[first]:
            continue
        free[first] = False
        box, group = boxes[first].copy(), [first]
        while True:
            new = np.flatnonzero(area(intersection(seen, box)) > 0)  # all others show nothing of it
            new = new[~np.isin(new, origin[group])]
            others = np.concatenate([of_window[number] for number in new], dtype=np.int64) if len(new) else new
            others = np.sort(others[free[others]])
            own = Seen(box, bool(cut[first]), seen[origin[first]])
            surer = scores[others] > scores[first] if origin[first] == WHOLE else np.zeros(len(others), bool)
            coarse = (origin[others] == WHOLE) | (origin[first] == WHOLE)
            limits = np.where(coarse, COARSE * nms_threshold, nms_threshold)
            same = others[is_same(own, boxes[others], cut[others], seen[origin[others]], limits, surer)]
            if not len(same):
                break
            free[same] = False
            group += same.tolist()
            grows = same[SURE_ENOUGH * scores[first] <= scores[same]]
            if not cut[first] or not len(grows):
                break
            box = around(boxes[grows], box)
        if origin[first] == WHOLE and len(group) > 1:
            box = finer(box, boxes[group[1:]], scores[group[1:]], nms_threshold)
        result.append((box, np.array(group)))
    return result


def finer(box: np.ndarray, parts: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """The box around the surest of `parts` [P, 4] where it is nearly a box that was seen small; else that box."""
    joined = around(parts[scores >= SURE_ENOUGH * scores.max()])
    shared = area(intersection(box, joined))
    nearly = shared > threshold * (area(box) + area(joined) - shared)
    return joined if nearly else box


def judged(box: np.ndarray, looks: Looks, seen: np.ndarray, picture: Size) -> tuple[np.ndarray, float]:
    """The box and the score of an object.

    Args:
        box: [4], of the detections together.
        looks: the detections that are the object.
        seen: [W, 4], the corners of the windows.
        picture: (height, width) of the original image.
    """
    whole = ~looks.cut & (looks.origin != WHOLE)
    if whole.any():
        boxes, scores, origin = looks.boxes[whole], looks.scores[whole], looks.origin[whole]
        box = boxes[0] if len(boxes) == 1 else np.average(boxes, axis=0, weights=np.maximum(scores, LEAST))
        weights = shows_whole(box, seen, picture).astype(np.float64)
        weights[WHOLE] = 0
        weights[origin] = 1  # they do, whatever a pixel more or less says
    else:
        scores, origin = looks.scores, looks.origin
        weights = area(intersection(seen, box)) / max(float(area(box)), LEAST)
        silent = ~np.isin(np.arange(len(seen)), origin)
        weights[silent & ((weights < PART) | (WHOLE in origin))] = 0
        weights[WHOLE] *= WHOLE in origin
    said = np.zeros(len(seen))
    np.maximum.at(said, origin, scores)
    return box, float((weights * said).sum() / max(weights.sum(), LEAST))


class Seen(NamedTuple):
    """A box [4], whether it is a part, and the corners [4] of the window that it was seen in."""

    box: np.ndarray
    is_part: bool
    window: np.ndarray


def is_same(
    own: Seen, others: np.ndarray, cut: np.ndarray, windows: np.ndarray, limits: np.ndarray, doubtful: np.ndarray
) -> np.ndarray:
    """Which boxes are the same object as one that comes before them: [D] bool.

    Args:
        own: that one.
        others: [D, 4], seen in other windows.
        cut: [D] bool, which of them are parts.
        windows: [D, 4], where they were seen.
        limits: [D], IoU above which two are the same whatever else.
        doubtful: [D] bool, which parts belong to a whole box that has them only where both windows agree.
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
    """Of what the whole picture shows, that which no tile shows whole."""
    boxes = whole.boxes.double().numpy()
    edges = np.array([corners(tile) for tile in tiles], np.float64).reshape(-1, 4)
    kept = torch.tensor([not shows_whole(box, edges, picture).any() for box in boxes], dtype=torch.bool)
    return whole._replace(boxes=whole.boxes[kept], scores=whole.scores[kept], labels=whole.labels[kept])


def shows_whole(box: np.ndarray, seen: np.ndarray, picture: Size) -> np.ndarray:
    """Which windows `seen` [W, 4] show all of a box [4], and do not cut it: [W] bool."""
    inside = (box[:2] >= seen[:, :2]).all(axis=1) & (box[2:] <= seen[:, 2:]).all(axis=1)
    result: np.ndarray = inside & ~is_cut(np.broadcast_to(box, seen.shape), seen, picture)
    return result


def is_cut(boxes: np.ndarray, seen: np.ndarray, picture: Size) -> np.ndarray:
    """Which boxes [D, 4] end at a border of their window `seen` [D, 4] that is no border of the picture: [D] bool."""
    height, width = picture
    edges = np.tile(seen[:, 2:] - seen[:, :2], 2)
    near = np.maximum(np.maximum(2.0, NEAR_BORDER * edges), INEXACT * np.tile(boxes[:, 2:] - boxes[:, :2], 2))
    inner = np.concatenate((seen[:, :2] > 0, seen[:, 2:] < np.array([width, height])), axis=1)
    return (inner & (np.abs(boxes - seen) <= near)).any(axis=1)


def intersection(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The boxes that pairs of boxes share; of no or negative size where they share nothing."""
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
