import pytest
import torch
from torch import nn

from detector.config import TrainConfig
from detector.errors import UserError
from detector.training.optimizer import (
    build_optimizer,
    load_momentum_buffers,
    momentum_buffers,
    parameter_groups,
    set_learning_rate,
)


def small_model() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.GroupNorm(1, 2), nn.Linear(2, 2))


def step(model: nn.Module, optimizer: torch.optim.SGD, gradient: float) -> None:
    for p in model.parameters():
        if p.requires_grad:
            p.grad = torch.full_like(p, gradient)
    optimizer.step()


def test_groups_part_norms_from_the_rest_and_leave_frozen_ones_out() -> None:
    model = small_model()
    model[0].requires_grad_(False)
    norms, others = parameter_groups(model)
    assert sorted(norms) == ["1.bias", "1.weight", "2.bias", "2.weight"]
    assert sorted(others) == ["3.bias", "3.weight"]


def test_decay_of_norms_and_of_everything_else_by_hand() -> None:
    # One step from parameter 1 with gradient 0: w − lr · decay · w.
    model = small_model()
    for p in model.parameters():
        nn.init.ones_(p)
    optimizer = build_optimizer(model, TrainConfig(weight_decay=0.5, norm_weight_decay=0.25))
    set_learning_rate(optimizer, 0.1)
    step(model, optimizer, gradient=0.0)
    assert model[3].bias.tolist() == pytest.approx([0.95, 0.95])
    assert model[1].weight.tolist() == pytest.approx([0.975, 0.975])


def test_momentum_by_hand() -> None:
    # v1 = 1, w = −0.1; v2 = 0.9 + 1, w = −0.1 − 0.19 (not Nesterov).
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = build_optimizer(model, TrainConfig(momentum=0.9, weight_decay=0.0))
    set_learning_rate(optimizer, 0.1)
    step(model, optimizer, 1.0)
    step(model, optimizer, 1.0)
    assert model.weight.item() == pytest.approx(-0.29)


def test_a_restored_optimizer_continues_bit_for_bit() -> None:
    torch.manual_seed(0)
    first, second = small_model(), small_model()
    train = TrainConfig()
    optimizer = build_optimizer(first, train)
    set_learning_rate(optimizer, 0.1)
    assert momentum_buffers(optimizer, first) == {}
    step(first, optimizer, 0.3)

    second.load_state_dict(first.state_dict())
    resumed = build_optimizer(second, train)
    load_momentum_buffers(resumed, second, momentum_buffers(optimizer, first))
    set_learning_rate(resumed, 0.1)
    step(first, optimizer, 0.7)
    step(second, resumed, 0.7)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_state_of_another_model_is_refused() -> None:
    model = small_model()
    optimizer = build_optimizer(model, TrainConfig())
    step(model, optimizer, 1.0)
    buffers = momentum_buffers(optimizer, model)
    model[0].requires_grad_(False)
    with pytest.raises(UserError, match=r"2 differ, the first is 0\.bias"):
        load_momentum_buffers(build_optimizer(model, TrainConfig()), model, buffers)


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(UserError, match="every parameter is frozen"):
        build_optimizer(small_model().requires_grad_(False), TrainConfig())
