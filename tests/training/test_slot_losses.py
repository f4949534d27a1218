"""Losses with targets in slots are those without, and so are their gradients."""

from typing import Any

import pytest
import torch
from device_cases import KINDS, NOTHING, SIZES, TARGETS, network
from tiny_models import random_batch, tiny_config, tiny_model
from torch import Tensor

from detector.boxes import pairwise_iou
from detector.structures import Target
from detector.training import targets as targets_module
from detector.training.joint import build_joint
from detector.training.matcher import match
from detector.training.slot_losses import PaddedTargets, fits_slots, slot_box_loss

SETTINGS: dict[str, dict[str, Any]] = {
    "as usual": {},
    "fewer proposals than slots": {"rpn": {"post_nms_top_n_train": 8}, "roi": {"batch_size_per_image": 64}},
    "fewer anchors than slots": {"rpn": {"batch_size_per_image": 1000}},
    "no positives": {"roi": {"positive_fraction": 0.01}, "rpn": {"positive_fraction": 0.01}},
}


def step(
    settings: dict[str, Any], targets: list[Target], in_slots: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses, and the gradient of their sum by parameter."""
    config = tiny_config(**settings)
    joint = build_joint(tiny_model(config).train(), config.model, in_slots=in_slots)
    images = random_batch(SIZES[: len(targets)])
    losses = joint(images, targets, [5 + i for i in range(len(targets))])
    torch.stack(list(losses.values())).sum().backward()
    return losses, {name: p.grad for name, p in joint.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("targets", [TARGETS, [TARGETS[0], NOTHING], [NOTHING, NOTHING]], ids=["all", "one", "none"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_same_losses_and_gradients(settings: dict[str, Any], targets: list[Target]) -> None:
    expected, gradients = step(settings, targets, in_slots=False)
    found, found_gradients = step(settings, targets, in_slots=True)
    assert found.keys() == expected.keys()
    for name, loss in expected.items():
        assert found[name].item() == pytest.approx(loss.item(), rel=1e-5, abs=1e-7), name
        assert found[name].dtype == torch.float32
    assert found_gradients.keys() == gradients.keys()
    whole = torch.stack([g.norm() for g in gradients.values()]).norm()
    for name, gradient in gradients.items():
        assert (found_gradients[name] - gradient).norm() <= 1e-4 * whole, name


def test_the_cpu_samples_as_ever() -> None:
    model, config = network("basic blocks")
    assert not build_joint(model, config.model).in_slots


def test_which_networks_fit() -> None:
    assert all(fits_slots(network(kind)[0], 256, 512) == (kind != "live batch norm") for kind in KINDS)
    assert not fits_slots(network("basic blocks")[0], 256, 100_000)


def test_targets_are_padded_with_rows_without_a_box() -> None:
    padded = PaddedTargets.of([*TARGETS, NOTHING])
    assert padded.boxes.shape == (3, 2, 4)
    assert torch.equal(padded.boxes[0], TARGETS[0].boxes)
    assert padded.labels.tolist() == [[2, 3], [1, 0], [0, 0]]
    assert PaddedTargets.of([NOTHING]).boxes.shape == (1, 1, 4)


@pytest.mark.parametrize("most_pairs", [2**25, 400])
@pytest.mark.parametrize("thresholds", [(0.5, 0.3), (0.5, 0.0), (0.0, 0.0)])
def test_pictures_are_matched_together_as_one_by_one(
    thresholds: tuple[float, float], most_pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(3, 100, 2, generator=generator) * 60
    candidates = torch.cat((corners, corners + torch.rand(3, 100, 2, generator=generator) * 60), dim=2)
    pictures = [*TARGETS, NOTHING]
    expected = [
        match(pairwise_iou(target.boxes, boxes), *thresholds, keep_best=True)
        for target, boxes in zip(pictures, candidates, strict=True)
    ]
    monkeypatch.setattr(targets_module, "MOST_PAIRS", most_pairs)
    labels, indices = PaddedTargets.of(pictures).match(candidates, *thresholds, keep_best=True)
    for i, matches in enumerate(expected):
        assert torch.equal(labels[i], matches.labels)
        assert torch.equal(indices[i], matches.index)


def test_what_a_box_loss_is_not_asked_about_does_not_count() -> None:
    deltas = torch.ones(3, 4, requires_grad=True)
    moves = torch.tensor([[0.0] * 4, [torch.inf] * 4, [torch.nan] * 4])
    loss = slot_box_loss(deltas, moves, torch.tensor([True, False, False]), 0.0)
    loss.backward()
    assert loss.item() == 4.0
    assert deltas.grad is not None
    assert deltas.grad.tolist() == [[1.0] * 4, [0.0] * 4, [0.0] * 4]
