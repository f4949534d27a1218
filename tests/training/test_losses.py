import math

import pytest
import torch

from detector.training.losses import box_loss, class_loss, foreground_deltas, objectness_loss


def test_objectness_loss_by_hand() -> None:
    # −log ½ for each of two undecided anchors, and log(1 + e^−2) for one that is right by 2.
    logits, labels = torch.tensor([0.0, 0.0, -2.0]), torch.tensor([1, 0, 0])
    expected = (2 * math.log(2) + math.log(1 + math.exp(-2))) / 4
    assert objectness_loss(logits, labels, 4.0).item() == pytest.approx(expected)


def test_box_loss_without_parabola_is_the_sum_of_distances() -> None:
    deltas, targets = torch.tensor([[1.0, -2.0, 0.0, 0.5]]), torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    assert box_loss(deltas, targets, beta=0.0, normalizer=2.0).item() == pytest.approx(3.5 / 2)


def test_box_loss_with_a_parabola_near_zero() -> None:
    deltas, targets = torch.tensor([[1.0, 0.1, 0.0, 0.0]]), torch.zeros(1, 4)
    # Beyond β: |x| − β/2. Within: x² / 2β.
    expected = (1 - 0.25) + 0.1**2 / (2 * 0.5)
    assert box_loss(deltas, targets, beta=0.5, normalizer=1.0).item() == pytest.approx(expected)


def test_class_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    expected = math.log(4) + math.log(1 + 3 * math.exp(-1))
    assert class_loss(logits, torch.tensor([2, 0]), 1.0).item() == pytest.approx(expected)
    assert class_loss(logits, torch.tensor([2, 0]), torch.tensor(2.0)).item() == pytest.approx(expected / 2)


def test_each_roi_is_judged_by_the_deltas_of_its_own_class() -> None:
    deltas = torch.arange(24.0).reshape(2, 3, 4)
    chosen = foreground_deltas(deltas, torch.tensor([1, 3]))
    assert chosen.tolist() == [[0, 1, 2, 3], [20, 21, 22, 23]]
    assert foreground_deltas(torch.zeros(0, 3, 4), torch.zeros(0, dtype=torch.int64)).shape == (0, 4)


def test_losses_of_nothing_are_zero_and_still_have_a_gradient() -> None:
    logits = torch.zeros(0, requires_grad=True)
    rows = torch.zeros(0, 4, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    total = (
        objectness_loss(logits, none, 1.0) + box_loss(rows, torch.zeros(0, 4), 0.0, 1.0) + class_loss(rows, none, 1.0)
    )
    assert total.item() == 0
    total.backward()
    assert logits.grad is not None
    assert rows.grad is not None
