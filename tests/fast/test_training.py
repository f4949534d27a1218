"""The fast way through a training step against the readable one."""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from everywhere import train_by_winograd
from tiny_models import random_batch, tiny_config, tiny_model
from torch import Tensor

from detector.errors import UserError
from detector.fast.fuse import fuse
from detector.fast.training import training_network
from detector.model.faster_rcnn import FasterRCNN
from detector.structures import FeatureMap, Target
from detector.training.joint import JointTraining, build_joint

SIZES = [(96, 128), (80, 100)]
BOXES = [[[10.0, 10, 60, 50], [70, 40, 120, 90]], [[20.0, 20, 90, 75]]]

KINDS: list[dict[str, Any]] = [
    {},
    {"backbone": {"depth": 50}},
    {"backbone": {"depth": 50, "stride_in_1x1": False, "freeze_stages": 0}},
    {"backbone": {"depth": 50, "stride_in_1x1": False}, "roi": {"aligned": False, "sampling_ratio": 2}},
    {"backbone": {"depth": 50, "freeze_stages": 4}},
    {"backbone": {"depth": 50}, "roi": {"pooling": "pool"}},
    {"backbone": {"norm": "batch", "freeze_stages": 1}},
    {"backbone": {"depth": 50, "norm": "batch", "freeze_stages": 3}},
    {"backbone": {"depth": 50, "norm": "group", "freeze_stages": 0}},
    {"backbone": {"depth": 50, "conv5_norm": "group"}},
    {"rpn": {"anchor_sizes": (24.0,), "anchor_ratios": (1.0,), "channels": 6}, "roi": {"pooled_size": 7}},
]
every_kind = pytest.mark.parametrize("settings", KINDS, ids=str)


def targets(boxes: Sequence[list[list[float]]], dtype: torch.dtype) -> list[Target]:
    return [Target(torch.tensor(b, dtype=dtype).reshape(-1, 4), torch.arange(len(b)) % 3 + 1) for b in boxes]


def step(joint: JointTraining, boxes: Sequence[list[list[float]]] = BOXES) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Losses, and the gradient of every trained parameter."""
    parameters = [p for p in joint.parameters() if p.requires_grad]
    dtype = joint.model.normalize.mean.dtype
    losses = joint(random_batch(SIZES), targets(boxes, dtype), seeds=[3, 4])
    return losses, list(torch.autograd.grad(torch.stack(list(losses.values())).sum(), parameters))


def in_float64(settings: dict[str, Any]) -> tuple[FasterRCNN, Any]:
    config = tiny_config(**settings)
    return tiny_model(config).double().train(), config.model


@every_kind
@pytest.mark.parametrize("boxes", [BOXES, [[], []]], ids=["objects", "none"])
@pytest.mark.parametrize("everywhere", [False, True], ids=["direct", "winograd"])
def test_same_losses_and_gradients_in_float64(
    settings: dict[str, Any], boxes: list[list[list[float]]], everywhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if everywhere:
        train_by_winograd(monkeypatch)
    model, config = in_float64(settings)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    expected, expected_gradients = step(build_joint(model, config, fast=False), boxes)
    statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.load_state_dict(before, strict=False)
    found, gradients = step(build_joint(model, config, fast=True), boxes)
    for name, loss in expected.items():
        assert loss.dtype == torch.float64
        torch.testing.assert_close(found[name], loss, rtol=1e-10, atol=1e-12)
    largest = max(float(g.abs().max()) for g in expected_gradients)
    assert largest > 0.01
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-10, atol=1e-10 * largest)
    # Live batch norms have seen the same.
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(buffer, statistics[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("settings", [KINDS[1], KINDS[2], KINDS[6]], ids=str)
@pytest.mark.parametrize("everywhere", [False, True], ids=["direct", "winograd"])
def test_near_in_float32_and_in_bfloat16(
    settings: dict[str, Any], everywhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if everywhere:
        train_by_winograd(monkeypatch)
    config = tiny_config(**settings)
    model = tiny_model(config).train()
    expected, expected_gradients = step(build_joint(model, config.model, fast=False))
    joint = build_joint(model, config.model, fast=True)
    for autocast, tolerance in ((False, 1e-4), (True, 0.15)):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found, gradients = step(joint)
        for name, loss in expected.items():
            assert found[name].dtype == torch.float32
            torch.testing.assert_close(found[name], loss, rtol=tolerance, atol=tolerance)
        difference = torch.cat([(g - e).flatten() for g, e in zip(gradients, expected_gradients, strict=True)])
        whole = torch.cat([e.flatten() for e in expected_gradients])
        assert difference.norm() / whole.norm() < 5 * tolerance


def test_frozen_stages_keep_no_gradient() -> None:
    for freeze_stages in range(5):
        model = tiny_model(tiny_config(backbone={"depth": 50, "freeze_stages": freeze_stages})).train()
        features = training_network(model, model.proposal_settings, fast=True).features(random_batch(SIZES))[0].values
        assert features.requires_grad == (freeze_stages < 4)
        trained = [p for p in model.backbone.parameters() if p.requires_grad]
        if trained:
            assert all((g != 0).any() for g in torch.autograd.grad(features.sum(), trained))


def test_sampled_anchors_are_those_of_the_whole_map() -> None:
    model, _ = in_float64({"backbone": {"depth": 18}})
    network = training_network(model, model.proposal_settings, fast=True)
    values = torch.randn(2, model.backbone.out_channels, 6, 8, dtype=torch.float64, requires_grad=True)
    features = (FeatureMap(values, 16),)
    count = 6 * 8 * model.anchors.per_cell
    torch.testing.assert_close(network.rpn(features), model.rpn(features))
    everything, nothing = torch.arange(count), torch.arange(0)
    corners_twice = torch.tensor([0, 0, count - 1, 7 * model.anchors.per_cell, 5])
    for chosen in ([everything, everything.flip(0)], [corners_twice, nothing], [nothing, nothing]):
        for found, expected in zip(network.rpn.at(features, chosen), model.rpn.at(features, chosen), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
            upstream = torch.randn_like(expected)
            gradient = torch.autograd.grad(found, values, upstream, retain_graph=True)[0]
            expected_gradient = torch.autograd.grad(expected, values, upstream, retain_graph=True)[0]
            torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-12)


def test_no_rois_pass_and_every_parameter_takes_part() -> None:
    model, _ = in_float64({"backbone": {"depth": 50}})
    for fast in (True, False):
        network = training_network(model, model.proposal_settings, fast)
        features = network.features(random_batch(SIZES))
        logits, deltas = network.roi_head(features, [torch.zeros(0, 4), torch.zeros(0, 4)])
        assert logits.shape == (0, 4)
        assert deltas.shape == (0, 3, 4)
        trained = [p for p in model.roi_head.parameters() if p.requires_grad]
        assert len(torch.autograd.grad(logits.sum() + deltas.sum(), trained)) == len(trained)


@pytest.mark.parametrize("fast", [True, False])
def test_it_shares_every_parameter_and_follows_the_model(fast: bool) -> None:
    model = tiny_model(tiny_config())
    network = training_network(model, model.proposal_settings, fast)
    assert type(network) is type(model)
    assert {id(p) for p in network.parameters()} == {id(p) for p in model.parameters()}
    model.double().train()
    assert network.features(random_batch(SIZES))[0].values.dtype == torch.float64
    names = [name for name, _ in build_joint(model, tiny_config().model, fast).named_parameters()]
    assert names == [f"model.{name}" for name, _ in model.named_parameters()]


def test_a_fused_network_is_not_trained() -> None:
    with pytest.raises(UserError, match="is fused already"):
        build_joint(fuse(tiny_model(tiny_config())), tiny_config().model)


NARROW = """
import torch
from tiny_models import random_batch, tiny_config, tiny_model
from detector.structures import Target
from detector.training.joint import build_joint
for depth, width, stem in ((18, 4, 4), (18, 7, 2), (50, 1, 1)):
    config = tiny_config(backbone={"depth": depth, "width": width, "stem_channels": stem, "freeze_stages": 0})
    gradients = []
    for dtype, fast in ((torch.float64, False), (torch.float32, False), (torch.float32, True)):
        joint = build_joint(tiny_model(config).to(dtype).train(), config.model, fast=fast)
        targets = [Target(torch.tensor([[10.0, 10, 60, 50]], dtype=dtype), torch.tensor([1]))] * 2
        losses = joint(random_batch([(96, 128), (64, 128)]), targets, seeds=[3, 4])
        parameters = [p for p in joint.parameters() if p.requires_grad]
        gradients.append(torch.autograd.grad(torch.stack(list(losses.values())).sum(), parameters))
    for exact, *others in zip(*gradients, strict=True):
        for gradient in others:
            error = float((gradient - exact).abs().max())
            assert error <= 1e-4 * max(float(g.abs().max()) for g in gradients[0]), (depth, width, error)
print("right")
"""


def test_narrow_networks_have_the_gradients_of_float64() -> None:
    # In a process of its own: gradients of few channels have ended it (`subsamples_first` says why).
    child = subprocess.run(
        [sys.executable, "-c", NARROW],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=300,
        check=False,
    )
    assert (child.returncode, child.stdout) == (0, "right\n"), child.stderr
