import copy

import pytest
import torch
from torch import nn

from detector.training.ema import AveragedModel


def test_average_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    averaged = AveragedModel(model, decay=0.5)
    nn.init.ones_(model.weight)
    averaged.update(model)  # early decay 1/10: 0 · 0.1 + 1 · 0.9
    assert averaged.model.weight.item() == pytest.approx(0.9)
    nn.init.constant_(model.weight, 2.0)
    averaged.update(model)  # early decay 2/11
    assert averaged.model.weight.item() == pytest.approx(0.9 * 2 / 11 + 2 * 9 / 11)
    averaged.updates = 1000
    averaged.model.weight.fill_(0.0)
    averaged.update(model)  # the given decay
    assert averaged.model.weight.item() == pytest.approx(1.0)


def test_statistics_follow_and_counters_are_copied() -> None:
    model = nn.BatchNorm2d(2)
    averaged = AveragedModel(model, decay=0.999)
    model(torch.full((2, 2, 3, 3), 10.0))
    averaged.update(model)
    assert averaged.model.num_batches_tracked.item() == 1
    assert averaged.model.running_mean.tolist() == pytest.approx([0.9, 0.9])  # 0.9 of the model's 1.0


def test_the_model_is_left_alone_and_nothing_is_trained_in_the_average() -> None:
    model = nn.Linear(2, 2)
    before = copy.deepcopy(model.state_dict())
    averaged = AveragedModel(model, 0.9)
    averaged.update(model)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert model.weight.requires_grad
    assert model.training
    assert not averaged.model.weight.requires_grad
    assert not averaged.model.training


def test_another_model_can_be_followed() -> None:
    model = nn.Linear(1, 1, bias=False)
    averaged = AveragedModel(model, decay=0.5)
    other = copy.deepcopy(model)
    nn.init.constant_(other.weight, model.weight.item() + 1)
    averaged.update(other)
    assert averaged.model.weight.item() == pytest.approx(model.weight.item() + 0.9)
