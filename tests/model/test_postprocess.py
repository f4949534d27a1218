import math
from dataclasses import replace

import pytest
import torch

from detector.model.postprocess import DetectionSettings, decode_scores, select_detections, to_original_frame
from detector.structures import Selection

SETTINGS = DetectionSettings(
    score_threshold=0.05, nms_threshold=0.5, max_per_image=100, min_size=0.0, delta_weights=(10.0, 10.0, 5.0, 5.0)
)
SIZE = (100, 200)


def select(
    boxes: list[list[float]],
    probabilities: list[list[float]],
    settings: DetectionSettings = SETTINGS,
    deltas: torch.Tensor | None = None,
) -> Selection:
    """Detections of proposals with these probabilities, background first; boxes stay, unless `deltas` moves them."""
    proposals, logits = torch.tensor(boxes).reshape(-1, 4), torch.tensor(probabilities).reshape(len(boxes), -1).log()
    deltas = torch.zeros(len(boxes), logits.shape[1] - 1, 4) if deltas is None else deltas
    return select_detections(*decode_scores(logits, deltas, proposals, settings.delta_weights), SIZE, settings)


LEFT, MIDDLE, RIGHT = [0.0, 0, 10, 10], [50.0, 0, 60, 10], [100.0, 0, 110, 10]


def test_labels_start_at_one_and_the_background_is_nobody() -> None:
    found = select([LEFT, MIDDLE, RIGHT], [[0.1, 0.9, 0.0], [0.2, 0.0, 0.8], [1.0, 0.0, 0.0]])
    assert found.labels.tolist() == [1, 2]
    assert found.boxes.tolist() == [LEFT, MIDDLE]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.8]))


def test_detections_descend_by_score() -> None:
    found = select([LEFT, MIDDLE, RIGHT], [[0.7, 0.3], [0.1, 0.9], [0.4, 0.6]])
    assert found.boxes.tolist() == [MIDDLE, RIGHT, LEFT]


def test_one_roi_may_be_of_several_classes() -> None:
    found = select([LEFT], [[0.2, 0.5, 0.3]])
    assert found.labels.tolist() == [1, 2]
    assert found.boxes.tolist() == [LEFT, LEFT]


def test_the_score_threshold_is_strict() -> None:
    assert len(select([LEFT], [[0.5, 0.5]], replace(SETTINGS, score_threshold=0.5))) == 0
    assert len(select([LEFT], [[0.5, 0.5]], replace(SETTINGS, score_threshold=0.499))) == 1


def test_each_class_is_thinned_out_alone() -> None:
    shifted = [1.0, 0, 11, 10]  # IoU 9/11 with LEFT
    found = select([LEFT, shifted], [[0.1, 0.9, 0.0], [0.2, 0.8, 0.0]])
    assert found.boxes.tolist() == [LEFT]
    found = select([LEFT, shifted], [[0.1, 0.9, 0.0], [0.2, 0.0, 0.8]])
    assert found.boxes.tolist() == [LEFT, shifted]


def test_an_iou_of_the_threshold_itself_is_kept() -> None:
    half = [0.0, 0, 10, 5]
    assert len(select([LEFT, half], [[0.1, 0.9], [0.2, 0.8]], replace(SETTINGS, nms_threshold=0.5))) == 2
    assert len(select([LEFT, half], [[0.1, 0.9], [0.2, 0.8]], replace(SETTINGS, nms_threshold=0.49))) == 1


def test_overlaps_are_measured_in_the_frame_that_is_asked_for() -> None:
    """Two boxes whose IoU is the threshold itself: once they are moved to a larger picture, rounding lifts it above."""
    boxes = torch.tensor([[3.0, 5, 20, 22], [3.0, 5, 20, 13.5]])
    scores = torch.tensor([[0.1, 0.9], [0.2, 0.8]])
    for frame, kept in (("input", 2), ("original", 1)):
        settings = replace(SETTINGS, nms_frame=frame)
        found = select_detections(scores, boxes[:, None], (240, 360), settings, (400, 600))
        assert len(found) == kept
        assert torch.equal(found.boxes, boxes[:kept])  # in pixels of the input image, wherever overlaps were measured


def test_the_most_confident_are_kept_over_all_classes() -> None:
    found = select(
        [LEFT, MIDDLE, RIGHT], [[0.1, 0.9, 0], [0.2, 0, 0.8], [0.3, 0.7, 0]], replace(SETTINGS, max_per_image=2)
    )
    assert found.labels.tolist() == [1, 2]


def test_every_class_has_deltas_of_its_own() -> None:
    deltas = torch.zeros(1, 2, 4)
    deltas[0, 0] = torch.tensor([10.0, 0.0, 0.0, 0.0])  # a width to the right
    deltas[0, 1] = torch.tensor([0.0, 0.0, 5 * math.log(2), 0.0])  # twice as wide
    found = select([[50.0, 0, 60, 10]], [[0.1, 0.6, 0.3]], deltas=deltas)
    torch.testing.assert_close(found.boxes, torch.tensor([[60.0, 0, 70, 10], [45.0, 0, 65, 10]]))


def test_boxes_are_clipped_to_the_image_before_nms() -> None:
    found = select([[-90.0, 0, 10, 10], LEFT], [[0.1, 0.9], [0.2, 0.8]])
    assert found.boxes.tolist() == [LEFT]


def test_the_smallest_size_is_reached_or_exceeded() -> None:
    boxes = [[0.0, 0, 5, 5], [50, 0, 55, 4.5], [100, 0, 104.5, 5]]
    found = select(boxes, [[0.1, 0.9]] * 3, replace(SETTINGS, min_size=5.0))
    assert found.boxes.tolist() == [boxes[0]]
    assert len(select(boxes, [[0.1, 0.9]] * 3)) == 3


def test_scores_and_boxes_before_selection() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]])
    deltas = torch.tensor([[[10.0, 0.0, 0.0, 0.0]]])  # a width to the right, at weights of 10
    scores, boxes = decode_scores(logits, deltas, torch.tensor([[190.0, 0, 210, 10]]), SETTINGS.delta_weights)
    torch.testing.assert_close(scores, torch.tensor([[0.25, 0.75]]))
    torch.testing.assert_close(boxes, torch.tensor([[[210.0, 0, 230, 10]]]), msg="and nothing is clipped")


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("delta", range(4))
def test_what_is_not_finite_cannot_hide_behind_limits(value: float, delta: int) -> None:
    """exp of an infinite delta is limited, or 0: the box that it gives looks like any other."""
    deltas = torch.zeros(2, 2, 4)
    deltas[1, 0, delta] = value
    logits = torch.zeros(2, 3)
    scores, boxes = decode_scores(logits, deltas, torch.tensor([LEFT, RIGHT]), SETTINGS.delta_weights)
    assert torch.isnan(scores[1]).all()
    assert torch.isnan(boxes[1]).all()
    assert torch.isfinite(scores[0]).all()
    assert torch.isfinite(boxes[0]).all()


def test_rois_with_anything_not_finite_are_dropped() -> None:
    deltas = torch.zeros(3, 2, 4)
    deltas[1, 1, 2] = math.inf
    found = select([LEFT, MIDDLE, RIGHT], [[0.1, 0.9, 0.0], [0.1, 0.9, 0.0], [0.1, math.nan, 0.5]], deltas=deltas)
    assert found.boxes.tolist() == [LEFT]


def test_no_proposals_and_no_detections() -> None:
    none = select_detections(torch.zeros(0, 4), torch.zeros(0, 3, 4), SIZE, SETTINGS)
    unsure = select([LEFT], [[0.97, 0.03]])
    for found in (none, unsure):
        assert (found.boxes.shape, found.scores.shape, found.labels.shape) == ((0, 4), (0,), (0,))
        assert found.labels.dtype == torch.int64


def test_to_original_frame_scales_clips_and_drops_what_is_empty() -> None:
    boxes = torch.tensor([[10.0, 20.0, 30.0, 40.0], [180.0, 0.0, 220.0, 10.0], [5.0, 5.0, 5.0, 9.0]])
    found = Selection(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([3, 1, 2]))
    original = to_original_frame(found, size=(100, 200), original_size=(50, 600))
    assert original.boxes.tolist() == [[30.0, 10.0, 90.0, 20.0], [540.0, 0.0, 600.0, 5.0]]
    assert original.labels.tolist() == [3, 1]
    torch.testing.assert_close(original.scores, torch.tensor([0.9, 0.8]))
    assert len(to_original_frame(Selection.empty(), (100, 200), (50, 600))) == 0
