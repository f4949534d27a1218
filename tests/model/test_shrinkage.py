"""Soft thresholds on the residual branch: the rule by its three cases, and the blocks that have it."""

from typing import Any

import pytest
import torch
from tiny_models import random_batch, tiny_config, tiny_model
from torch import Tensor, nn

from detector.config import BackboneConfig, Config, ConfigError, load_config
from detector.fast.fuse import fuse
from detector.model.blocks import BasicBlock, Bottleneck
from detector.model.build import build_model
from detector.model.resnet import ResNetShape
from detector.model.shrinkage import Shrinkage, soft_threshold
from detector.structures import Target
from detector.training.joint import build_joint

BOTH = pytest.mark.parametrize("kind", ["channel", "shared"])


def three_cases(x: Tensor, threshold: Tensor) -> Tensor:
    """The rule as the paper writes it."""
    return torch.where(x > threshold, x - threshold, torch.where(x < -threshold, x + threshold, torch.zeros_like(x)))


class NoThreshold(Shrinkage):
    """Thresholds of zero."""

    def thresholds(self, x: Tensor) -> Tensor:
        return torch.zeros_like(super().thresholds(x))


def shrinkages(module: nn.Module) -> list[Shrinkage]:
    return [m for m in module.modules() if isinstance(m, Shrinkage)]


# The rule


def test_the_soft_threshold_by_hand() -> None:
    x = torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0])
    assert soft_threshold(x, torch.tensor(1.0)).tolist() == [-2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_soft_threshold_is_exactly_its_three_cases(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 8, 9, 7).to(dtype)
    x[0, 0, 0, :4] = torch.tensor([float("inf"), float("-inf"), 0.25, -0.25])
    for shape in ((4, 8, 1, 1), (4, 1, 1, 1), (1,)):
        threshold = torch.rand(shape).to(dtype)
        assert torch.equal(soft_threshold(x, threshold), three_cases(x, threshold))
    assert torch.equal(soft_threshold(x, torch.tensor(0.25, dtype=dtype)), three_cases(x, torch.tensor(0.25)))


def test_its_gradient_is_1_outside_and_0_inside_and_minus_the_sign_for_the_threshold() -> None:
    x = torch.tensor([-3.0, -0.5, 0.5, 3.0], requires_grad=True)
    threshold = torch.full((4,), 1.0, requires_grad=True)
    soft_threshold(x, threshold).sum().backward()
    assert x.grad is not None
    assert threshold.grad is not None
    assert x.grad.tolist() == [1, 0, 0, 1]
    assert threshold.grad.tolist() == [1, 0, 0, -1]


def test_a_threshold_is_a_share_of_the_mean_absolute_value() -> None:
    x = torch.tensor([[1.0, -3.0], [4.0, 4.0]]).view(1, 2, 2, 1)  # means of |x|: 2 and 4
    for kind, expected in (("channel", [1.0, 2.0]), ("shared", [1.5])):
        shrink = Shrinkage(2, kind, reduction=4)  # type: ignore[arg-type]
        nn.init.zeros_(shrink.expand.weight)  # the share is then sigmoid(0) = 1/2
        assert shrink.thresholds(x).flatten().tolist() == expected


# Blocks


@BOTH
@pytest.mark.parametrize("block", [BasicBlock(4, 4, 1, "batch"), Bottleneck(8, 4, 2, "batch", False)], ids=str)
def test_thresholds_of_zero_are_the_plain_block_bit_for_bit(block: nn.Module, kind: Any) -> None:
    assert isinstance(block, BasicBlock | Bottleneck)
    torch.manual_seed(0)
    x = torch.randn(2, block.conv1.in_channels, 8, 6)
    block.shrink = nn.Identity()
    plain = block(x)
    block.shrink = NoThreshold(plain.shape[1], kind, 4)
    assert torch.equal(block(x), plain)
    block.shrink = Shrinkage(plain.shape[1], kind, 4)
    assert not torch.equal(block(x), plain)


def test_resnet_50_gets_two_and_a_half_million_weights_more() -> None:
    """C → C/16 → C in every bottleneck; at full width it would be forty million."""
    with torch.device("meta"):
        stages = [ResNetShape(50, norm="batch", shrinkage="channel").make_stage(s) for s in (2, 3, 4, 5)]
    found = [s for stage in stages for s in shrinkages(stage)]
    assert len(found) == 3 + 4 + 6 + 3
    assert sum(s.reduce.weight.numel() + s.expand.weight.numel() for s in found) == 2_514_944
    full = sum(2 * s.reduce.in_features**2 for s in found)
    assert full == 16 * 2_514_944 == 40_239_104
    assert [stage[0].shrink.reduce.out_features for stage in stages] == [16, 32, 64, 128]


def test_a_basic_block_has_a_quarter_of_its_channels_between() -> None:
    (first, _) = ResNetShape(18, norm="batch", shrinkage="shared").make_stage(3)
    assert (first.shrink.reduce.in_features, first.shrink.reduce.out_features) == (128, 32)
    assert first.shrink.expand.out_features == 1


# Settings


def test_without_the_setting_nothing_changes() -> None:
    with torch.device("meta"):
        model = build_model(tiny_config())
    assert shrinkages(model) == []
    assert not any("shrink" in name for name in model.state_dict())


def test_frozen_norms_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.backbone.shrinkage=channel .* batch or group"):
        BackboneConfig(shrinkage="channel")
    with pytest.raises(ConfigError, match="conv5_norm"):
        BackboneConfig(shrinkage="shared", norm="batch", conv5_norm="frozen_batch")


def test_the_setting_is_read(tmp_path: Any) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("model: {backbone: {norm: batch, shrinkage: channel}}")
    assert load_config(path).model.backbone.shrinkage == "channel"
    path.write_text("model: {backbone: {norm: batch, shrinkage: pixel}}")
    with pytest.raises(ConfigError, match="shrinkage"):
        load_config(path)


# Networks


KINDS: list[dict[str, Any]] = [
    {"backbone": {"depth": 18, "norm": "batch", "shrinkage": "channel"}},
    {"backbone": {"depth": 50, "norm": "batch", "shrinkage": "shared", "width": 4}},
    {"backbone": {"depth": 50, "norm": "group", "shrinkage": "channel", "width": 4}, "roi": {"pooling": "pool"}},
]


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_the_fast_network_has_them_too(settings: dict[str, Any]) -> None:
    model = tiny_model(tiny_config(**settings))
    assert len(shrinkages(model.backbone)) > 0
    assert len(shrinkages(model.roi_head)) > 0
    images = random_batch([(64, 96)])
    boxes = [p.boxes for p in model.propose(model.features(images), images.sizes)]
    fused = fuse(model, torch.float64)
    model = model.double()
    expected = model.score(model.features(images), [b.double() for b in boxes])[0][0]
    found = fused.score(fused.features(images), boxes)[0][0]
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("settings", KINDS[:2], ids=str)
def test_the_fast_training_network_has_the_same_losses(settings: dict[str, Any]) -> None:
    config: Config = tiny_config(**settings)
    model = tiny_model(config).train()
    images = random_batch([(64, 96)])
    target = Target(torch.tensor([[8.0, 8.0, 50.0, 40.0]]), torch.tensor([1]))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    losses = {}
    for fast in (False, True):
        model.load_state_dict(state)
        model.zero_grad()
        found = build_joint(model, config.model, fast)(images, [target], [0])
        sum(found.values()).backward()
        gradient = torch.cat(
            [p.grad.flatten() for s in shrinkages(model) for p in s.parameters() if p.grad is not None]
        )
        losses[fast] = (*(v.item() for v in found.values()), float(gradient.norm()))
    assert losses[True] == pytest.approx(losses[False], rel=1e-3)
    assert losses[True][-1] > 0
