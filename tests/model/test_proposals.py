import math
from dataclasses import replace

import torch
from torchvision.ops import nms

from detector.model.anchors import AnchorGrid
from detector.model.proposals import ProposalSettings, first_survivors, select_proposals
from detector.structures import Proposals

SETTINGS = ProposalSettings(
    pre_nms_top_n=10, post_nms_top_n=10, nms_threshold=0.7, min_size=0.0, delta_weights=(1.0, 1.0, 1.0, 1.0)
)
SIZE = (100, 200)


def select(
    boxes: list[list[float]],
    logits: list[float],
    settings: ProposalSettings = SETTINGS,
    deltas: torch.Tensor | None = None,
) -> Proposals:
    """Proposals of anchors that stay where they are, unless `deltas` moves them."""
    grid = one_cell(boxes)
    deltas = torch.zeros_like(grid.base) if deltas is None else deltas
    return select_proposals([(torch.tensor(logits), deltas)], [grid], SIZE, settings)


def one_cell(boxes: list[list[float]]) -> AnchorGrid:
    """These boxes as the anchors of a map of one cell."""
    return AnchorGrid(torch.tensor(boxes).reshape(-1, 4), offset=0.0, stride=16, rows=1, columns=1)


def test_the_best_come_first_and_overlapping_ones_go() -> None:
    # The second overlaps the third with IoU 9/11 = 0.82 and the fourth with 5/15.
    boxes = [[50.0, 50, 60, 60], [0, 0, 10, 10], [1, 0, 11, 10], [5, 0, 15, 10]]
    proposals = select(boxes, [-1.0, 2.0, 3.0, 0.5])
    assert proposals.boxes.tolist() == [boxes[2], boxes[3], boxes[0]]
    assert proposals.logits.tolist() == [3.0, 0.5, -1.0]


def test_an_iou_of_the_threshold_itself_is_kept() -> None:
    boxes = [[0.0, 0, 10, 10], [0, 0, 10, 5]]  # IoU 0.5
    assert len(select(boxes, [2.0, 1.0], replace(SETTINGS, nms_threshold=0.5)).logits) == 2
    assert len(select(boxes, [2.0, 1.0], replace(SETTINGS, nms_threshold=0.49)).logits) == 1


def test_only_the_best_by_logit_enter_nms() -> None:
    boxes = [[0.0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 60, 60]]
    # Of the two that enter, one suppresses the other; the third does not move up into its place.
    proposals = select(boxes, [3.0, 2.0, 1.0], replace(SETTINGS, pre_nms_top_n=2))
    assert proposals.boxes.tolist() == [boxes[0]]


def test_only_the_best_leave_nms() -> None:
    boxes = [[0.0, 0, 10, 10], [30, 0, 40, 10], [50, 50, 60, 60]]
    proposals = select(boxes, [1.0, 2.0, 3.0], replace(SETTINGS, post_nms_top_n=2))
    assert proposals.logits.tolist() == [3.0, 2.0]


def test_anchors_move_by_their_deltas_and_are_clipped_to_the_image() -> None:
    deltas = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, math.log(2), 0.0]])
    proposals = select([[190.0, 10, 200, 20], [90.0, 95, 110, 105]], [2.0, 1.0], deltas=deltas)
    # The first moves wholly outside, to x from 200 to 210, and is empty when clipped.
    torch.testing.assert_close(proposals.boxes, torch.tensor([[80.0, 95.0, 120.0, 100.0]]))


def test_clipping_comes_before_nms() -> None:
    # Unclipped, the two share 1/19 of their union; inside the image they are the same box.
    boxes = [[0.0, -90, 10, 10], [0.0, 0, 10, 10]]
    assert len(select(boxes, [2.0, 1.0]).logits) == 1


def test_small_ones_are_dropped_strictly() -> None:
    boxes = [[0.0, 0, 10, 10], [30, 0, 40, 5], [60, 0, 65, 10], [90, 0, 95.5, 5.5]]
    proposals = select(boxes, [4.0, 3.0, 2.0, 1.0], replace(SETTINGS, min_size=5.0))
    assert proposals.logits.tolist() == [4.0, 1.0]
    assert select([[7.0, 7, 7, 9]], [1.0]).boxes.shape == (0, 4), "nothing is as narrow as nothing"


def test_what_is_not_finite_is_dropped() -> None:
    boxes = [[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]]
    deltas = torch.zeros(3, 4)
    deltas[1, 0] = math.nan
    proposals = select(boxes, [1.0, 2.0, math.inf], deltas=deltas)
    assert proposals.boxes.tolist() == [boxes[0]]


def test_no_anchors_give_no_proposals() -> None:
    proposals = select([], [])
    assert proposals.boxes.shape == (0, 4)
    assert proposals.logits.shape == (0,)


def test_maps_are_thinned_out_alone_and_the_best_of_all_are_kept() -> None:
    boxes = [
        [[0.0, 0, 10, 10], [1, 0, 11, 10]],
        [[0.0, 0, 10, 11], [50, 50, 60, 60]],
    ]  # neighbours overlap by 0.7 or more
    logits = [torch.tensor([3.0, 2.0]), torch.tensor([1.0, 4.0])]
    scores = [(one, torch.zeros(2, 4)) for one in logits]
    grids = [one_cell(b) for b in boxes]
    proposals = select_proposals(scores, grids, SIZE, SETTINGS)
    assert proposals.logits.tolist() == [4.0, 3.0, 1.0]
    assert proposals.boxes.tolist() == [boxes[1][1], boxes[0][0], boxes[1][0]]
    proposals = select_proposals(scores, grids, SIZE, replace(SETTINGS, post_nms_top_n=2))
    assert proposals.logits.tolist() == [4.0, 3.0]
    # Each map brings its best into NMS, not the best of both.
    assert select_proposals(scores, grids, SIZE, replace(SETTINGS, pre_nms_top_n=1)).logits.tolist() == [4.0, 3.0]


def test_the_first_survivors_are_those_of_nms_over_all() -> None:
    generator = torch.Generator().manual_seed(0)
    for clusters in (3, 30, 300):
        centers = torch.rand(clusters, 2, generator=generator)[torch.arange(400) % clusters] * 100
        corners = centers + torch.randn(400, 2, generator=generator)
        extent = 10 + torch.rand(400, 2, generator=generator) * 10
        boxes = torch.cat((corners, corners + extent), dim=1)
        scores = torch.linspace(1, 0, 400)
        survivors = nms(boxes, scores, 0.7)
        for count in (1, 10, 60, survivors.shape[0], 1000):
            assert torch.equal(first_survivors(boxes, scores, 0.7, count), survivors[:count])


def test_by_the_sigmoid_large_logits_are_equal_and_the_first_wins() -> None:
    boxes = [[0.0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 60, 60]]
    logits = [20.0, 30.0, 25.0]
    assert select(boxes, logits).logits.tolist() == [30.0, 25.0]
    by_sigmoid = replace(SETTINGS, rank_by="sigmoid")
    assert select(boxes, logits, by_sigmoid).logits.tolist() == [20.0, 25.0]
    # torchvision looks for the best by logit, and only then takes the sigmoid.
    after = replace(SETTINGS, rank_by="sigmoid_after_top_n")
    assert select(boxes, logits, after).logits.tolist() == [30.0, 25.0]


def test_boxes_may_be_kept_from_shrinking_to_nothing() -> None:
    deltas = torch.tensor([[0.0, 0.0, -10.0, -10.0]])
    (plain,) = select([[0.0, 0, 64, 64]], [1.0], deltas=deltas).boxes
    (limited,) = select([[0.0, 0, 64, 64]], [1.0], replace(SETTINGS, limit_shrinking=True), deltas).boxes
    torch.testing.assert_close(plain[2] - plain[0], torch.tensor(64 * math.exp(-10)), rtol=1e-2, atol=1e-5)
    torch.testing.assert_close(limited[2] - limited[0], torch.tensor(64 * 16 / 1000))
