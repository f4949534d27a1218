"""Residual blocks as one function each: what the blocks compute, forward and backward."""

import copy

import pytest
import torch
from device_cases import GRADIENT, LOSS, SIZES, TARGETS, network
from tiny_models import random_batch
from torch import Tensor, nn

from detector.fast import fused_gradient
from detector.fast.fold_together import Folds, stages_of
from detector.fast.fused_gradient import run_fused, run_rest
from detector.fast.training_blocks import run_block
from detector.model.blocks import BasicBlock, Bottleneck, FrozenBatchNorm2d, Projection
from detector.training.joint import JointTraining, build_joint


def always(_device: torch.device, _dtype: torch.dtype) -> bool:
    return True


def random_norms(block: nn.Module) -> nn.Module:
    """Float64, with norms of all kinds of numbers."""
    for norm in block.modules():
        if isinstance(norm, FrozenBatchNorm2d):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.5, 0.5)
            norm.running_mean.uniform_(-0.5, 0.5)
            norm.running_var.uniform_(0.5, 1.5)
    return block.double()


def blocks() -> dict[str, BasicBlock | Bottleneck]:
    """Of both kinds, with and without a projection, strided and not."""
    made = {}
    for kind in ("basic blocks", "bottlenecks"):
        model, _ = network(kind)
        for number, stage in enumerate((model.backbone.conv2_x, model.backbone.conv3_x)):
            for place, block in enumerate(stage):
                made[f"{kind}, stage {number}, block {place}"] = block
    return made


def gradients(block: nn.Module, x: Tensor, out: Tensor) -> list[Tensor]:
    """Of the input, and of all that is trained."""
    weights = [p for p in block.parameters() if p.requires_grad]
    factor = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return list(torch.autograd.grad((out * factor).sum(), [x, *weights]))


@pytest.mark.parametrize("name", blocks())
def test_a_block_is_what_it_is_step_by_step(name: str) -> None:
    block = copy.deepcopy(blocks()[name])
    random_norms(block.requires_grad_(True))
    x = torch.randn(2, block.conv1.in_channels, 9, 7, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_(True)
    folds = Folds(stages_of(nn.Sequential(nn.Sequential(block))), always)
    folds.prepare()
    out, expected = run_fused(block, x, folds), run_block(block, x)
    assert out is not None
    torch.testing.assert_close(out, expected)
    assert (out > 0).any()
    assert (out == 0).any()
    for ours, theirs in zip(gradients(block, x, out), gradients(block, x, expected), strict=True):
        torch.testing.assert_close(ours, theirs)
        assert ours.abs().max() > 0


def test_what_is_left_of_a_bottleneck_after_its_opening() -> None:
    block = next(b for b in blocks().values() if isinstance(b, Bottleneck) and isinstance(b.shortcut, Projection))
    block = copy.deepcopy(block)
    random_norms(block.requires_grad_(True))
    assert isinstance(block.shortcut, Projection)
    x = torch.randn(2, block.conv1.in_channels, 8, 8, dtype=torch.float64, requires_grad=True)
    folds = Folds(stages_of(nn.Sequential(nn.Sequential(block))), always)
    folds.prepare()
    reduce, project = folds.take(block.conv1), folds.take(block.shortcut.conv)
    assert reduce is not None
    assert project is not None
    reduced = torch.relu(nn.functional.conv2d(x, reduce.weight, reduce.offset, block.conv1.stride))
    shortcut = nn.functional.conv2d(x, project.weight, None, block.shortcut.conv.stride)
    out, expected = run_rest(block, reduced, shortcut, project, folds), run_block(block, x)
    assert out is not None
    torch.testing.assert_close(out, expected)
    for ours, theirs in zip(gradients(block, x, out), gradients(block, x, expected), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_frozen_block_keeps_nothing_and_passes_its_gradient_on() -> None:
    block = random_norms(copy.deepcopy(next(iter(blocks().values()))).requires_grad_(False))
    x = torch.randn(1, block.conv1.in_channels, 6, 6, dtype=torch.float64, requires_grad=True)
    folds = Folds(stages_of(nn.Sequential(nn.Sequential(block))), always)
    folds.prepare()
    out, expected = run_fused(block, x, folds), run_block(block, x)
    torch.testing.assert_close(*(torch.autograd.grad(o.sum(), x)[0] for o in (out, expected)))
    folds.prepare()
    with torch.no_grad():
        out = run_fused(block, x, folds)
    assert not out.requires_grad


def test_what_cannot_be_fused_is_left_and_nothing_is_taken() -> None:
    block = random_norms(copy.deepcopy(next(iter(blocks().values()))))
    stages, x = stages_of(nn.Sequential(nn.Sequential(block))), torch.randn(1, block.conv1.in_channels, 6, 6).double()
    folds = Folds(stages)
    folds.prepare()
    assert run_fused(block, x, folds) is None  # nobody said that blocks are fused
    folds = Folds(stages, always)
    folds.prepare()
    assert run_fused(block, x[:0], folds) is None
    assert run_fused(block, x.float(), folds) is None  # folded in another type
    assert folds.take(block.conv2) is not None
    assert run_fused(block, x, folds) is None  # one of them is gone
    assert folds.take(block.conv1) is not None
    folds.prepare()
    block.conv1.dilation = (2, 2)
    assert run_fused(block, x, folds) is None


def step(joint: JointTraining) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Losses and gradients."""
    losses = list(joint(random_batch(SIZES), TARGETS, [1, 2]).values())
    torch.stack(losses).sum().backward()
    return losses, {name: p.grad for name, p in joint.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", ["basic blocks", "bottlenecks", "FPN", "group norm in conv5_x"])
def test_the_same_losses_and_gradients_in_a_network(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, config = network(kind)
    count = []
    original = fused_gradient._Block.apply
    monkeypatch.setattr(fused_gradient._Block, "apply", lambda *given: count.append(1) or original(*given))
    results = []
    for fuses in (False, True):
        joint = build_joint(copy.deepcopy(model).train(), config.model)
        folds = Folds(stages_of(joint.model), lambda *_, fuses=fuses: fuses)
        for part in joint.network.modules():
            if hasattr(part, "folds"):
                part.folds = folds
        results.append(step(joint))
    assert len(count) >= 4
    (expected, theirs), (losses, ours) = results
    torch.testing.assert_close(losses, expected, rtol=LOSS, atol=LOSS)
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() <= GRADIENT * gradient.norm(), name
