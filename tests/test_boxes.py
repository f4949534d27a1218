"""Box geometry by numbers that can be checked by hand."""

import math
from collections.abc import Callable

import pytest
import torch

from detector import boxes as box_ops

# One box of 4 × 2 pixels, one of 2 × 4 that shares a 2 × 2 square with it, one far away, one without area inside.
BOXES = torch.tensor([[0.0, 0.0, 4.0, 2.0], [2.0, 0.0, 4.0, 4.0], [10.0, 10.0, 12.0, 12.0], [1.0, 1.0, 1.0, 2.0]])
EMPTY = torch.zeros(0, 4)


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 200 - 20
    extent = torch.rand(count, 2, generator=generator) * 100 + 1
    return torch.cat((corner, corner + extent), dim=1)


def test_area_is_width_times_height_without_an_extra_pixel() -> None:
    assert box_ops.area(BOXES).tolist() == [8.0, 8.0, 4.0, 0.0]
    assert box_ops.area(EMPTY).shape == (0,)


def test_iou() -> None:
    # Intersection of the first two is 2 × 2 = 4; their union is 8 + 8 − 4 = 12.
    expected = torch.tensor([[1.0, 4 / 12, 0.0, 0.0], [4 / 12, 1.0, 0.0, 0.0]])
    torch.testing.assert_close(box_ops.pairwise_iou(BOXES[:2], BOXES), expected, rtol=0, atol=1e-7)


def test_iou_of_boxes_without_area_is_zero_and_not_nan() -> None:
    point = torch.tensor([[1.0, 1.0, 1.0, 1.0]])
    assert box_ops.pairwise_iou(point, torch.cat((point, BOXES))).tolist() == [[0.0] * 5]


def test_iou_of_touching_boxes_is_zero() -> None:
    left, right = torch.tensor([[0.0, 0.0, 5.0, 5.0]]), torch.tensor([[5.0, 0.0, 10.0, 5.0]])
    assert box_ops.pairwise_iou(left, right).item() == 0


def test_iou_without_boxes() -> None:
    assert box_ops.pairwise_iou(EMPTY, BOXES).shape == (0, 4)
    assert box_ops.pairwise_iou(BOXES, EMPTY).shape == (4, 0)


def test_clip_reaches_the_width_and_the_height_themselves() -> None:
    boxes = torch.tensor([[-3.0, -1.0, 25.0, 15.0], [2.0, 3.0, 4.0, 5.0], [30.0, 40.0, 50.0, 60.0]])
    clipped = box_ops.clip(boxes, (10, 20))
    assert clipped.tolist() == [[0, 0, 20, 10], [2, 3, 4, 5], [20, 10, 20, 10]]
    assert boxes[0, 0] == -3, "the argument is not changed"
    assert box_ops.clip(torch.zeros(2, 0, 4), (10, 20)).shape == (2, 0, 4)


def test_is_larger_than_is_strict_and_asks_both_sides() -> None:
    boxes = torch.tensor([[0.0, 0.0, 3.0, 3.0], [0.0, 0.0, 2.0, 3.0], [0.0, 0.0, 3.0, 2.0]])
    assert box_ops.is_larger_than(boxes, 2.0).tolist() == [True, False, False]


def test_flip_horizontal() -> None:
    boxes = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    assert box_ops.flip_horizontal(boxes, 10).tolist() == [[6.0, 2.0, 9.0, 8.0]]


def test_flip_vertical() -> None:
    boxes = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    assert box_ops.flip_vertical(boxes, 10).tolist() == [[1.0, 2.0, 4.0, 8.0]]
    assert box_ops.flip_vertical(boxes, 20).tolist() == [[1.0, 12.0, 4.0, 18.0]]


@pytest.mark.parametrize("flip", [box_ops.flip_horizontal, box_ops.flip_vertical])
def test_flipping_twice_is_the_identity_and_once_is_not(flip: Callable[[torch.Tensor, float], torch.Tensor]) -> None:
    boxes = random_boxes(50, seed=0)
    once = flip(boxes, 333)
    torch.testing.assert_close(flip(once, 333), boxes, rtol=0, atol=1e-4)
    torch.testing.assert_close(box_ops.area(once), box_ops.area(boxes), rtol=1e-4, atol=1e-2)
    assert (once - boxes).abs().max() > 1


def test_rescale_moves_x_and_y_separately() -> None:
    boxes = torch.tensor([[10.0, 10.0, 20.0, 40.0]])
    assert box_ops.rescale(boxes, (100, 200), (50, 600)).tolist() == [[30.0, 5.0, 60.0, 20.0]]


def test_rescale_and_back() -> None:
    boxes = random_boxes(50, seed=1)
    there = box_ops.rescale(boxes, (480, 640), (800, 1067))
    torch.testing.assert_close(box_ops.rescale(there, (800, 1067), (480, 640)), boxes, rtol=0, atol=1e-4)


def test_encode_by_hand() -> None:
    # From a 10 × 20 box centred on (5, 10) to a 20 × 10 box centred on (15, 10).
    boxes = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
    targets = torch.tensor([[5.0, 5.0, 25.0, 15.0]])
    deltas = box_ops.encode_deltas(boxes, targets, (1.0, 1.0, 1.0, 1.0))
    torch.testing.assert_close(deltas, torch.tensor([[1.0, 0.0, math.log(2), -math.log(2)]]))
    weighted = box_ops.encode_deltas(boxes, targets, (10.0, 10.0, 5.0, 5.0))
    torch.testing.assert_close(weighted, torch.tensor([[10.0, 0.0, 5 * math.log(2), -5 * math.log(2)]]))


def test_decode_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
    deltas = torch.tensor([[10.0, -5.0, 5 * math.log(2), -5 * math.log(2)]])
    decoded = box_ops.decode_deltas(boxes, deltas, (10.0, 10.0, 5.0, 5.0))
    # The centre moves from (5, 10) to (15, 0); the size becomes 20 × 10.
    torch.testing.assert_close(decoded, torch.tensor([[5.0, -5.0, 25.0, 5.0]]))


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_decode_undoes_encode(weights: box_ops.DeltaWeights) -> None:
    boxes, targets = random_boxes(100, seed=2), random_boxes(100, seed=3)
    # A target more than 62.5 times as wide would meet the limit; none is.
    assert ((targets[:, 2:] - targets[:, :2]) / (boxes[:, 2:] - boxes[:, :2])).max() < 62.5
    deltas = box_ops.encode_deltas(boxes, targets, weights)
    torch.testing.assert_close(box_ops.decode_deltas(boxes, deltas, weights), targets, rtol=0, atol=1e-3)


def test_decode_of_several_classes_takes_the_same_box_for_each() -> None:
    boxes = random_boxes(5, seed=4)
    deltas = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(5))
    together = box_ops.decode_deltas(boxes, deltas, (10.0, 10.0, 5.0, 5.0))
    assert together.shape == (5, 3, 4)
    for k in range(3):
        alone = box_ops.decode_deltas(boxes, deltas[:, k], (10.0, 10.0, 5.0, 5.0))
        torch.testing.assert_close(together[:, k], alone, rtol=0, atol=0)


def test_growth_is_limited_from_above_only() -> None:
    boxes = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    deltas = torch.tensor([[0.0, 0.0, 100.0, -100.0]])
    decoded = box_ops.decode_deltas(boxes, deltas, (1.0, 1.0, 1.0, 1.0))
    # A 16 px box becomes at most 1000 px wide; the height shrinks to nothing.
    torch.testing.assert_close(decoded, torch.tensor([[-492.0, 8.0, 508.0, 8.0]]), rtol=0, atol=1e-3)


def test_the_limit_applies_after_the_weights() -> None:
    boxes = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    deltas = torch.tensor([[0.0, 0.0, 5 * math.log(10), 0.0]])  # beyond the limit before, within it after division
    decoded = box_ops.decode_deltas(boxes, deltas, (10.0, 10.0, 5.0, 5.0))
    assert (decoded[0, 2] - decoded[0, 0]).item() == pytest.approx(160, abs=1e-3)


def test_half_precision_deltas_are_decoded_in_the_precision_of_the_boxes() -> None:
    boxes = torch.tensor([[1000.0, 0.0, 1017.0, 17.0]])
    decoded = box_ops.decode_deltas(boxes, torch.zeros(1, 4, dtype=torch.bfloat16), (1.0, 1.0, 1.0, 1.0))
    assert decoded.dtype == torch.float32
    assert decoded.tolist() == boxes.tolist()


def test_the_codec_of_no_boxes() -> None:
    weights = (1.0, 1.0, 1.0, 1.0)
    assert box_ops.encode_deltas(EMPTY, EMPTY, weights).shape == (0, 4)
    assert box_ops.decode_deltas(EMPTY, EMPTY, weights).shape == (0, 4)
    assert box_ops.decode_deltas(EMPTY, torch.zeros(0, 7, 4), weights).shape == (0, 7, 4)
