import math

import pytest
import torch

from detector.boxes import decode_deltas
from detector.structures import Target
from detector.training import targets as module
from detector.training.targets import AnchorTargetSettings, RoITargetSettings, anchor_targets, roi_targets

ANCHOR_SETTINGS = AnchorTargetSettings(
    positive_iou=0.7,
    negative_iou=0.3,
    batch_size_per_image=8,
    positive_fraction=0.5,
    delta_weights=(1.0, 1.0, 1.0, 1.0),
)
ROI_SETTINGS = RoITargetSettings(
    positive_iou=0.5, batch_size_per_image=8, positive_fraction=0.25, delta_weights=(10.0, 10.0, 5.0, 5.0)
)
NOTHING = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
# A box of class 3, and one of class 1 far away.
TARGET = Target(torch.tensor([[0.0, 0, 10, 10], [100, 100, 120, 120]]), torch.tensor([3, 1]))


def test_anchor_targets_by_hand() -> None:
    anchors = torch.tensor(
        [
            [0.0, 0, 10, 10],  # the first box itself
            [0, 0, 10, 20],  # IoU ½ with it: ignored
            [50, 50, 60, 60],  # IoU 0: negative
            [100, 100, 120, 160],  # IoU ⅓ with the second box, the best that it has: positive
            [-30, -30, -20, -20],  # outside of the image: takes part, negative
        ]
    )
    found = anchor_targets(anchors, TARGET, ANCHOR_SETTINGS, seed=0)
    assert sorted(found.positives.tolist()) == [0, 3]
    assert sorted(found.negatives.tolist()) == [2, 4]
    expected = {0: [0.0, 0.0, 0.0, 0.0], 3: [0.0, -20 / 60, 0.0, math.log(20 / 60)]}
    for index, deltas in zip(found.positives.tolist(), found.deltas, strict=True):
        torch.testing.assert_close(deltas, torch.tensor(expected[index]))


def test_positive_anchors_moved_by_their_targets_are_the_ground_truth() -> None:
    anchors = torch.tensor([[0.0, 0, 11, 10], [0, 1, 10, 11], [101, 100, 121, 122]])
    found = anchor_targets(anchors, TARGET, ANCHOR_SETTINGS, seed=0)
    assert sorted(found.positives.tolist()) == [0, 1, 2]
    moved = decode_deltas(anchors[found.positives], found.deltas, ANCHOR_SETTINGS.delta_weights)
    expected = TARGET.boxes[torch.tensor([0, 0, 1])[found.positives]]
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-4)


def test_anchors_of_an_image_without_objects_are_all_negative() -> None:
    found = anchor_targets(torch.rand(20, 4) * 10, NOTHING, ANCHOR_SETTINGS, seed=0)
    assert (len(found.positives), len(found.negatives)) == (0, 8)
    assert found.deltas.shape == (0, 4)


def test_anchors_are_sampled() -> None:
    anchors = torch.cat(
        (torch.tensor([[0.0, 0, 10, 10]]).repeat(20, 1), torch.tensor([[50.0, 50, 60, 60]]).repeat(20, 1))
    )
    found = anchor_targets(anchors, TARGET, ANCHOR_SETTINGS, seed=0)
    assert (len(found.positives), len(found.negatives)) == (4, 4)
    assert found.deltas.shape == (4, 4)


def test_roi_targets_by_hand() -> None:
    proposals = torch.tensor(
        [
            [0.0, 0, 10, 5],  # IoU ½ with the first box: foreground
            [0, 0, 10, 4.9],  # less: background
            [50, 50, 60, 60],  # background
        ]
    )
    settings = RoITargetSettings(0.5, batch_size_per_image=12, positive_fraction=0.25, delta_weights=(10, 10, 5, 5))
    found = roi_targets(proposals, TARGET, settings, seed=0)
    # Three foreground RoIs, of which two are the ground truth itself, then two of the background.
    assert found.labels.tolist()[3:] == [0, 0]
    assert sorted(found.labels.tolist()[:3]) == [1, 3, 3]
    assert found.boxes.shape == (5, 4)
    assert sorted(found.boxes[3:].tolist()) == sorted(proposals[1:].tolist())
    for box, label, deltas in zip(found.boxes[:3], found.labels[:3], found.deltas, strict=True):
        if box.tolist() == proposals[0].tolist():
            # The centre moves down by half of the height, and the height doubles.
            torch.testing.assert_close(deltas, torch.tensor([0.0, 5.0, 0.0, 5 * math.log(2)]))
        else:
            assert deltas.tolist() == [0.0] * 4
            assert label == (3 if box[0] == 0 else 1)


def test_foreground_rois_moved_by_their_targets_are_the_ground_truth() -> None:
    proposals = torch.tensor([[1.0, 0, 11, 10], [99, 98, 119, 121]])
    found = roi_targets(proposals, TARGET, RoITargetSettings(0.5, 64, 0.25, (10.0, 10.0, 5.0, 5.0)), seed=0)
    assert len(found.deltas) == 4
    moved = decode_deltas(found.boxes[:4], found.deltas, (10.0, 10.0, 5.0, 5.0))
    ground_truth = {3: TARGET.boxes[0], 1: TARGET.boxes[1]}
    expected = torch.stack([ground_truth[label] for label in found.labels[:4].tolist()])
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-4)


def test_rois_of_an_image_without_objects_are_background() -> None:
    found = roi_targets(torch.rand(20, 4) * 10, NOTHING, ROI_SETTINGS, seed=0)
    assert found.labels.tolist() == [0] * 8
    assert found.deltas.shape == (0, 4)


def test_without_proposals_the_ground_truth_is_what_there_is() -> None:
    found = roi_targets(torch.zeros(0, 4), TARGET, ROI_SETTINGS, seed=0)
    assert sorted(found.labels.tolist()) == [1, 3]
    assert sorted(found.boxes.tolist()) == sorted(TARGET.boxes.tolist())


def test_without_proposals_and_objects_there_is_nothing() -> None:
    found = roi_targets(torch.zeros(0, 4), NOTHING, ROI_SETTINGS, seed=0)
    assert (found.boxes.shape, found.labels.shape, found.deltas.shape) == ((0, 4), (0,), (0, 4))
    assert found.labels.dtype == torch.int64


def test_no_gradient_flows_into_targets() -> None:
    proposals = torch.tensor([[0.0, 0, 10, 9]], requires_grad=True)
    found = roi_targets(proposals, TARGET, ROI_SETTINGS, seed=0)
    assert not found.boxes.requires_grad
    assert not found.deltas.requires_grad


@pytest.mark.parametrize("most_pairs", [1, 40 * 7, 10**9])
def test_boxes_that_are_matched_in_parts_give_the_same_targets(
    monkeypatch: pytest.MonkeyPatch, most_pairs: int
) -> None:
    """Many boxes on a few anchors, so that anchors are contested, ties included."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 6, (30, 2), generator=generator) * 8.0
    boxes = torch.cat((corners, corners + torch.randint(1, 4, (30, 2), generator=generator) * 8.0), dim=1)
    target = Target(boxes, torch.arange(1, 31))
    grid = torch.cartesian_prod(torch.arange(0.0, 48, 12), torch.arange(0.0, 48, 5))
    anchors = torch.cat((grid, grid + 17), dim=1)
    assert len(anchors) == 40
    rois = RoITargetSettings(0.4, 64, 0.5, (10.0, 10.0, 5.0, 5.0))
    whole, whole_rois = anchor_targets(anchors, target, ANCHOR_SETTINGS, 0), roi_targets(anchors, target, rois, 0)
    monkeypatch.setattr(module, "MOST_PAIRS", most_pairs)
    parts, parts_rois = anchor_targets(anchors, target, ANCHOR_SETTINGS, 0), roi_targets(anchors, target, rois, 0)
    for one, other in ((whole, parts), (whole_rois, parts_rois)):
        for name, value in vars(one).items():
            assert torch.equal(value, getattr(other, name)), name
