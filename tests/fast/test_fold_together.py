"""Convolutions folded a stage at a time are those folded one by one, to the bit, and so are their gradients."""

import copy
from contextlib import nullcontext

import pytest
import torch
from device_cases import SIZES, TARGETS, network
from tiny_models import random_batch
from torch import Tensor, nn

from detector.fast.fold_together import Folds, stages_of
from detector.model.blocks import FrozenBatchNorm2d
from detector.training.joint import JointTraining, build_joint


def joint_with(kind: str, together: bool) -> JointTraining:
    """A copy of a network in training, that folds together or one by one."""
    model, config = network(kind)
    joint = build_joint(copy.deepcopy(model).train(), config.model)
    if together:
        use_folds(joint)
    return joint


def use_folds(joint: JointTraining) -> None:
    """As on a GPU."""
    folds = Folds(stages_of(joint.model))
    for part in joint.network.modules():
        if hasattr(part, "folds"):
            part.folds = folds


def step(joint: JointTraining, dtype: torch.dtype) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Losses and gradients."""
    joint.zero_grad(set_to_none=True)
    rounding = nullcontext() if dtype == torch.float32 else torch.autocast("cpu", dtype)
    with rounding:
        losses = list(joint(random_batch(SIZES), TARGETS, [1, 2]).values())
    torch.stack(losses).sum().backward()
    return losses, {name: p.grad for name, p in joint.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["basic blocks", "bottlenecks", "FPN", "group norm in conv5_x"])
def test_the_same_losses_and_gradients_to_the_bit(kind: str, dtype: torch.dtype) -> None:
    expected, gradients = step(joint_with(kind, False), dtype)
    joint = joint_with(kind, True)
    for _ in range(2):  # nothing of the first step is left in the second
        found, ours = step(joint, dtype)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        assert ours.keys() == gradients.keys()
        for name, gradient in gradients.items():
            assert torch.equal(ours[name], gradient), name


def pair(trained: bool = True) -> tuple[nn.Conv2d, FrozenBatchNorm2d]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv, norm = nn.Conv2d(3, 4, 3, bias=False).requires_grad_(trained), FrozenBatchNorm2d(4)
    norm.running_mean.fill_(0.5)
    norm.bias.fill_(2.0)
    return conv, norm


def test_each_is_taken_once() -> None:
    conv, norm = pair()
    folds = Folds([[(conv, norm)]])
    assert folds.take(conv) is None
    folds.prepare()
    folded = folds.take(conv)
    assert folded is not None
    torch.testing.assert_close(folded.weight, conv.weight)
    torch.testing.assert_close(folded.offset, torch.full((4,), 1.5))
    assert folds.take(conv) is None


def test_what_would_no_longer_do_is_not_taken() -> None:
    conv, norm = pair()
    folds = Folds([[(conv, norm)]])
    folds.prepare()
    with torch.no_grad():
        conv.weight += 1
    assert folds.take(conv) is None, "the weight has changed"
    with torch.no_grad():
        folds.prepare()
    assert folds.take(conv) is None, "a gradient is wanted, and it has none"
    with torch.no_grad():
        folds.prepare()
        assert folds.take(conv) is not None
    frozen, norm = pair(trained=False)
    folds = Folds([[(frozen, norm)]])
    folds.prepare()
    assert folds.take(frozen) is not None


def test_norms_that_train_are_left_alone() -> None:
    conv = nn.Conv2d(3, 4, 1, bias=False)
    folds = Folds([[(conv, nn.BatchNorm2d(4))]])
    folds.prepare()
    assert folds.take(conv) is None
