"""Whether two networks detect the same, which is asked before either's speed is worth a word."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torchvision.ops import box_iou

from detector.structures import Selection

# The same detection: same label, IoU and difference of scores within these (the protocol of docs/performance.md).
SAME_IOU, SAME_SCORE = 0.99, 1e-3
# Of slivers less than a pixel wide even rounding changes the IoU by more: corners within this, in pixels, will do.
SAME_CORNERS = 0.02
# In bfloat16 boxes move; they are each other's from here on.
NEAR_IOU = 0.5
# Our bfloat16 may be this share worse than the peer's, and besides by as many standard errors of the difference:
# random weights magnify every rounding, so what moves how far is chance.
SLACK, STANDARD_ERRORS = 0.1, 2.0


@dataclass(frozen=True)
class Mean:
    """A mean with its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Agreement:
    """How two lists of detections go together.

    counts: how many in each. matched: pairs. overlap: IoU of a detection with its partner, 0 where it has none.
    shift: difference of its score from its partner's, the whole score where it has none. box: largest difference of a
    coordinate of partners, pixels. score: largest difference of their scores.
    """

    counts: tuple[int, int]
    matched: int
    overlap: Mean
    shift: Mean
    box: float
    score: float

    @property
    def is_same(self) -> bool:
        """Every detection has a partner (of IoU `SAME_IOU`, if it was made with that) and its score, and some exist."""
        return 0 < self.matched == self.counts[0] == self.counts[1] and self.score <= SAME_SCORE


def compare(first: Sequence[Selection], second: Sequence[Selection], min_iou: float) -> Agreement:
    """Pair the detections of the same pictures one to one: of one label, the largest IoUs first.

    Partners have an IoU of `min_iou` or corners within `SAME_CORNERS`.
    """
    assert len(first) == len(second)
    ious: list[float] = []
    boxes: list[float] = []
    scores: list[float] = []
    lonely: list[float] = []  # scores of those without a partner
    for one, other in zip(first, second, strict=True):
        pairs, overlaps = _pairs(one, other, min_iou)
        ious += overlaps
        boxes += (one.boxes[pairs[:, 0]] - other.boxes[pairs[:, 1]]).abs().flatten().tolist()
        scores += (one.scores[pairs[:, 0]] - other.scores[pairs[:, 1]]).abs().tolist()
        for detections, used in ((one, pairs[:, 0]), (other, pairs[:, 1])):
            alone = torch.ones(len(detections), dtype=torch.bool)
            alone[used] = False
            lonely += detections.scores[alone].tolist()
    return Agreement(
        counts=(sum(map(len, first)), sum(map(len, second))),
        matched=len(ious),
        overlap=_mean(ious, [0.0] * len(lonely)),
        shift=_mean(scores, lonely),
        box=max(boxes, default=0.0),
        score=max(scores, default=0.0),
    )


def _mean(of_pairs: list[float], of_lonely: list[float]) -> Mean:
    """Over detections of both sides; a pair is two detections of one fate."""
    values = torch.tensor(of_pairs * 2 + of_lonely, dtype=torch.float64)
    if len(values) < 2:
        return Mean(float(values.sum()), float("inf"))
    independent = len(of_pairs) + len(of_lonely) / 2
    return Mean(float(values.mean()), float(values.std()) / independent**0.5)


def _pairs(one: Selection, other: Selection, min_iou: float) -> tuple[torch.Tensor, list[float]]:
    """[M, 2] indices of partners, and their IoUs."""
    iou = box_iou(one.boxes.double(), other.boxes.double())
    iou[one.labels[:, None] != other.labels[None]] = 0
    corners = (one.boxes[:, None] - other.boxes).abs().amax(dim=2)
    rows, columns = torch.nonzero((iou >= min_iou) | ((corners <= SAME_CORNERS) & (iou > 0)), as_tuple=True)
    values = iou[rows, columns]
    free_rows, free_columns = set(rows.tolist()), set(columns.tolist())
    pairs, overlaps = [], []
    for index in values.argsort(descending=True, stable=True).tolist():
        row, column = int(rows[index]), int(columns[index])
        if row in free_rows and column in free_columns:
            free_rows.remove(row)
            free_columns.remove(column)
            pairs.append((row, column))
            overlaps.append(float(values[index]))
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2), overlaps


def refusal_exact(agreement: Agreement) -> str | None:
    """Why the detections of two float32 networks are not the same, or None."""
    if agreement.is_same:
        return None
    return (
        f"{agreement.matched} of {agreement.counts[0]} and {agreement.counts[1]} detections agree in label and box "
        f"(IoU {SAME_IOU}, or corners to {SAME_CORNERS} px), "
        f"their scores to {agreement.score:.1e} ({SAME_SCORE} allowed)"
    )


def refusal_near(ours: Agreement, peer: Agreement) -> str | None:
    """Why our bfloat16 moves detections more than the peer's does, or None.

    Args:
        ours: our bfloat16 against our float32, made with `NEAR_IOU`.
        peer: the peer's bfloat16 against the peer's float32, likewise.
    """
    worse = max(
        (peer.overlap.value - ours.overlap.value - _allowed(ours.overlap, peer.overlap)),
        (ours.shift.value - peer.shift.value - _allowed(ours.shift, peer.shift)),
    )
    if worse <= 0:
        return None
    return (
        f"in bfloat16 ours keeps a mean IoU of {ours.overlap.value:.2f} and moves scores by {ours.shift.value:.3f}, "
        f"the peer {peer.overlap.value:.2f} and {peer.shift.value:.3f}"
    )


def _allowed(ours: Mean, peer: Mean) -> float:
    return SLACK * peer.value + STANDARD_ERRORS * float((ours.error**2 + peer.error**2) ** 0.5)
