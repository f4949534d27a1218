"""The head looks again at its own boxes: which ones, and what is selected from."""

from collections.abc import Sequence

import pytest
import torch
from tiny_models import random_batch, tiny_config, tiny_model
from torch import Tensor

from detector.fast.fuse import fuse
from detector.model.refinement import refine, usable_boxes

SIZE = (100, 100)
NAN = float("nan")


class FakeHead:
    """Scores the class 1 of every region with 0.7 and moves its box by one pixel; notes what it was asked for."""

    def __init__(self) -> None:
        self.regions: list[Tensor] = []

    def __call__(self, boxes: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        self.regions += boxes
        scores = [torch.tensor([0.3, 0.7, 0.0]).expand(len(b), 3) for b in boxes]
        return scores, [torch.stack((b + 1, b - 1), dim=1) for b in boxes]


def test_each_region_goes_on_with_the_box_of_its_best_class() -> None:
    scores = torch.tensor([[0.5, 0.1, 0.4], [0.1, 0.6, 0.3]])
    boxes = torch.tensor([[[0.0, 0, 10, 10], [1, 1, 9, 9]], [[2, 2, 8, 8], [3, 3, 7, 7]]])
    assert usable_boxes(scores, boxes, SIZE).tolist() == [[1, 1, 9, 9], [2, 2, 8, 8]]


def test_degenerate_boxes_are_dropped_before_pooling() -> None:
    """Beyond the picture they have no area once clipped; nor has a line; NaN is what a broken region has."""
    boxes = torch.tensor([[120.0, 0, 140, 10], [5, 5, 5, 20], [NAN] * 4, [-5, -5, 20, 20], [9, 9, 3, 3]])
    scores = torch.tensor([[0.1, 0.9, 0.0]] * 5)
    head = FakeHead()
    refine(head, [scores], [torch.stack((boxes, boxes), dim=1)], [SIZE], passes=1, keep_all=True)
    assert [regions.tolist() for regions in head.regions] == [[[0, 0, 20, 20]]]


@pytest.mark.parametrize(("keep_all", "rows"), [(True, 3), (False, 1)])
def test_all_passes_are_kept_or_the_last(keep_all: bool, rows: int) -> None:
    box = torch.tensor([[10.0, 10, 20, 20]])
    first = torch.tensor([[0.1, 0.8, 0.1]])
    scores, boxes = refine(FakeHead(), [first], [torch.stack((box, box), dim=1)], [SIZE], 2, keep_all)
    assert scores[0].shape == (rows, 3)
    assert boxes[0].shape == (rows, 2, 4)
    assert boxes[0][-1, 0].tolist() == [12, 12, 22, 22]  # moved by each pass


def test_no_regions() -> None:
    head = FakeHead()
    scores, boxes = refine(head, [torch.zeros(0, 3)], [torch.zeros(0, 2, 4)], [SIZE], 1, keep_all=True)
    assert (scores[0].shape, boxes[0].shape) == ((0, 3), (0, 2, 4))


def test_readable_and_fast_networks_refine_alike() -> None:
    model = tiny_model(tiny_config(detection={"refine_passes": 2, "voting_threshold": 0.5}))
    images = random_batch([(80, 100), (70, 90)])
    with torch.inference_mode():
        plain, fast = model(images), fuse(model)(images)
    for a, b in zip(plain, fast, strict=True):
        assert len(a) > 5
        torch.testing.assert_close(a.boxes, b.boxes, atol=1e-3, rtol=0)
        torch.testing.assert_close(a.scores, b.scores, atol=1e-5, rtol=0)
        assert torch.equal(a.labels, b.labels)
