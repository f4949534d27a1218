"""NMS that does not keep classes or levels apart, made on purpose: on made problems it gives other boxes.

The recorded outputs of the lineages do not show all of these: no two of their boxes are near enough.
"""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torchvision.ops import nms

from detector.model import postprocess, proposals
from detector.model.anchors import AnchorGrid
from detector.model.postprocess import DetectionSettings, select_detections
from detector.model.proposals import ProposalSettings, select_proposals

SIZE = (100, 200)
Rule = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def all_at_once(boxes: Tensor, scores: Tensor, _groups: Tensor, threshold: float) -> Tensor:
    return nms(boxes, scores, threshold)


def one_by_one(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Group by group where the boxes are; the right rule moves groups apart first, and coordinates are rounded."""
    members = [torch.nonzero(groups == group).flatten() for group in groups.unique()]
    kept = torch.cat([m[nms(boxes[m], scores[m], threshold)] for m in members])
    return kept[scores[kept].argsort(descending=True)]


def kept_detections(boxes: Sequence[Sequence[float]], labels: Sequence[int]) -> list[int]:
    """The labels of the detections, of boxes that each have one class, the best first."""
    scores = torch.zeros(len(boxes), max(labels) + 1)
    for row, label in enumerate(labels):
        scores[row, label] = 0.9 - 0.1 * row
    places = torch.tensor(boxes)[:, None].expand(-1, max(labels), -1)
    settings = DetectionSettings(0.05, 0.5, 100, 0.0, (10.0, 10.0, 5.0, 5.0))
    return select_detections(scores, places, SIZE, settings).labels.tolist()


WHOLE, SHIFTED = [0.0, 0, 10, 10], [1.0, 0, 11, 10]  # IoU 9/11
LONG, HALF = [55.88, 45.40, 110.99, 62.74], [55.88, 45.40, 110.99, 54.07]  # IoU 1/2: the threshold, which stays


@pytest.mark.parametrize(
    ("boxes", "labels", "right", "wrong", "with_wrong"),
    [
        ([WHOLE, SHIFTED], [1, 2], [1, 2], all_at_once, [1]),
        ([WHOLE, SHIFTED, WHOLE], [3, 1, 2], [3, 1, 2], all_at_once, [3]),
        # Of the first class, which stays where it is, both are kept; far out rounding lifts the overlap above 1/2.
        ([LONG, HALF], [1, 1], [1, 1], one_by_one, [1, 1]),
        ([LONG, HALF], [4, 4], [4], one_by_one, [4, 4]),
    ],
)
def test_classes_are_moved_apart(
    boxes: list[list[float]],
    labels: list[int],
    right: list[int],
    wrong: Rule,
    with_wrong: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert kept_detections(boxes, labels) == right
    monkeypatch.setattr(postprocess, "batched_nms", wrong)
    assert kept_detections(boxes, labels) == with_wrong


def kept_proposals(boxes: Sequence[Sequence[Sequence[float]]], logits: Sequence[Sequence[float]]) -> list[float]:
    """The logits of the proposals, of anchors that stay where they are; boxes and logits level by level."""
    grids = [AnchorGrid(torch.tensor(of_level), offset=0.0, stride=16, rows=1, columns=1) for of_level in boxes]
    scores = [(torch.tensor(of_level), torch.zeros(len(of_level), 4)) for of_level in logits]
    settings = ProposalSettings(10, 10, 0.7, 0.0, (1.0, 1.0, 1.0, 1.0))
    return select_proposals(scores, grids, SIZE, settings).logits.tolist()


def test_levels_are_kept_apart() -> None:
    boxes, logits = [[WHOLE, [50.0, 50, 60, 60]], [SHIFTED], [WHOLE]], [[2.0, -1.0], [3.0], [1.0]]
    assert kept_proposals(boxes, logits) == [3.0, 2.0, 1.0, -1.0]
    one_level = [box for of_level in boxes for box in of_level], [logit for of_level in logits for logit in of_level]
    assert kept_proposals([one_level[0]], [one_level[1]]) == [3.0, -1.0], "as one level"


def test_within_a_level_boxes_are_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, logits = [[WHOLE, SHIFTED], [WHOLE]], [[2.0, 3.0], [1.0]]
    assert kept_proposals(boxes, logits) == [3.0, 1.0]
    monkeypatch.setattr(proposals, "nms", lambda _boxes, scores, _threshold: torch.arange(len(scores)))
    assert kept_proposals(boxes, logits) == [3.0, 2.0, 1.0], "without NMS"
