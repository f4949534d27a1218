"""Four losses of a batch, with small random networks."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from tiny_models import one_of, random_batch, tiny_config, tiny_model
from torch import Tensor, nn

from detector.structures import FeatureMap, ImageBatch, Target
from detector.training import joint as joint_module
from detector.training.joint import JointTraining, build_joint

LOSSES = ["rpn_objectness", "rpn_box", "roi_class", "roi_box"]
SIZES = [(96, 128), (80, 100)]
TARGETS = [
    Target(torch.tensor([[10.0, 10, 60, 50], [70, 40, 120, 90]]), torch.tensor([2, 3])),
    Target(torch.tensor([[20.0, 20, 90, 75]]), torch.tensor([1])),
]
NOTHING = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def make_joint(**settings: Any) -> JointTraining:
    config = tiny_config(**settings)
    return build_joint(tiny_model(config).train(), config.model)


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def values(losses: dict[str, Tensor]) -> list[float]:
    return [loss.item() for loss in losses.values()]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="basic blocks"),
        pytest.param({"backbone": {"depth": 50}}, id="bottlenecks"),
        pytest.param({"backbone": {"norm": "batch", "freeze_stages": 0}}, id="live batch norm"),
        pytest.param({"backbone": {"norm": "batch"}}, id="live batch norm, frozen stages"),
        pytest.param({"backbone": {"norm": "group", "freeze_stages": 4}}, id="group norm, frozen backbone"),
        pytest.param({"roi": {"pooling": "pool"}}, id="RoIPool"),
        pytest.param({"rpn": {"smooth_l1_beta": 0.1}, "roi": {"smooth_l1_beta": 1.0}}, id="smooth L1"),
    ],
)
@pytest.mark.parametrize(
    "targets",
    [
        pytest.param(TARGETS, id="objects"),
        pytest.param([TARGETS[0], NOTHING], id="one picture without"),
        pytest.param([NOTHING, NOTHING], id="no objects"),
    ],
)
def test_every_trained_parameter_gets_a_gradient_and_no_other(settings: dict[str, Any], targets: list[Target]) -> None:
    joint = make_joint(**settings)
    losses = joint(random_batch(SIZES), targets, [1, 2])
    assert list(losses) == LOSSES
    for loss in losses.values():
        assert loss.shape == ()
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss)
        assert loss >= 0
    if targets[0] is NOTHING:
        assert losses["rpn_box"] == losses["roi_box"] == 0
    total(losses).backward()
    for name, parameter in joint.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
        else:
            assert parameter.grad is None, name
    gradients = [p.grad.abs().max() for p in joint.parameters() if p.grad is not None]
    assert max(gradients) > 0


def zero_outputs(joint: JointTraining) -> None:
    model = joint.model
    for layer in (model.rpn.objectness, model.rpn.anchor_deltas, model.roi_head.cls_score, model.roi_head.bbox_pred):
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


def test_losses_of_a_network_that_knows_nothing() -> None:
    joint = make_joint(num_classes=3)
    zero_outputs(joint)
    losses = joint(random_batch(SIZES), [NOTHING, NOTHING], [1, 2])
    # 32 negatives are found in each picture, of 32 that the sum is divided by.
    assert losses["rpn_objectness"].item() == pytest.approx(math.log(2), abs=1e-6)
    assert losses["roi_class"].item() == pytest.approx(math.log(4), abs=1e-6)


def test_losses_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """One box that equals an anchor, and everything at zero."""
    joint = make_joint(num_classes=3)
    zero_outputs(joint)
    # Anchors of 32 × 32 lie on every multiple of 16; this box is one of them, shifted by 4 pixels.
    target = Target(torch.tensor([[36.0, 32.0, 68.0, 64.0]]), torch.tensor([2]))

    def take_all(labels: Tensor, _count: int, _fraction: float, _seed: int) -> tuple[Tensor, Tensor]:
        return torch.nonzero(labels == 1).flatten(), torch.nonzero(labels == 0).flatten()

    monkeypatch.setattr("detector.training.targets.sample", take_all)
    losses = joint(random_batch([(96, 128)]), [target], [1])
    anchors = joint.model.anchors((FeatureMap(torch.zeros(1, 1, 6, 8), 16),))[0].all()
    iou = joint_iou(anchors, target.boxes[0])
    positive = iou >= 0.7  # IoU with the nearest: 28 · 32 / (2 · 32² − 28 · 32) = 0.78
    assert positive.sum() == 1
    considered = int((iou < 0.3).sum() + positive.sum())
    assert losses["rpn_objectness"].item() == pytest.approx(considered * math.log(2) / 32, rel=1e-5)
    assert losses["rpn_box"].item() == pytest.approx((4 / 32) / 32, rel=1e-5)
    assert losses["roi_class"].item() == pytest.approx(math.log(4), rel=1e-5)


def joint_iou(boxes: Tensor, box: Tensor) -> Tensor:
    """Written out once more, box by box."""
    result = []
    x1, y1, x2, y2 = box.tolist()
    for a1, b1, a2, b2 in boxes.tolist():
        width, height = max(0.0, min(x2, a2) - max(x1, a1)), max(0.0, min(y2, b2) - max(y1, b1))
        result.append(width * height / ((x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - width * height))
    return torch.tensor(result)


# Seeds


def test_losses_are_a_function_of_the_seeds() -> None:
    joint = make_joint()
    images = random_batch(SIZES)
    torch.manual_seed(1)
    first = values(joint(images, TARGETS, [1, 2]))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert values(joint(images, TARGETS, [1, 2])) == first
    assert torch.equal(torch.get_rng_state(), state), "nothing is drawn from the global generator"
    assert values(joint(images, TARGETS, [1, 3])) != first
    assert values(joint(images, TARGETS, [5, 2])) != first


def test_any_whole_number_is_a_seed() -> None:
    joint = make_joint()
    for seed in (0, 2**62, 2**63 - 1, 2**64 - 1, -1):
        assert all(math.isfinite(v) for v in values(joint(random_batch(SIZES[:1]), TARGETS[:1], [seed])))


def test_anchors_and_rois_draw_from_different_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def note(labels: Tensor, _count: int, _fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        seen.append(seed)
        return torch.nonzero(labels == 1).flatten(), torch.nonzero(labels == 0).flatten()[:4]

    monkeypatch.setattr("detector.training.targets.sample", note)
    make_joint()(random_batch(SIZES), TARGETS, [1, 2])
    assert len(set(seen)) == 4


# Batches


def test_a_batch_is_as_good_as_its_pictures() -> None:
    joint = make_joint()
    images = random_batch([(96, 128)] * 2)
    together = joint(images, TARGETS, [1, 2])
    apart = [joint(one_of(images, i), TARGETS[i : i + 1], [i + 1]) for i in range(2)]
    # The RPN divides by as many anchors for each picture, and here every picture gives 16 RoIs.
    for name in LOSSES:
        assert together[name].item() == pytest.approx((apart[0][name].item() + apart[1][name].item()) / 2, rel=1e-4)


def test_rois_are_averaged_over_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    joint = make_joint()
    images = random_batch(SIZES)
    alone = joint(images, TARGETS, [1, 2])
    monkeypatch.setattr(joint_module, "mean_over_processes", lambda value: value * 2)
    among_others = joint(images, TARGETS, [1, 2])
    for name, factor in zip(LOSSES, (1, 1, 2, 2), strict=True):
        assert alone[name].item() == pytest.approx(among_others[name].item() * factor, rel=1e-5)


@pytest.mark.parametrize("norm", ["frozen_batch", "batch"])
def test_a_batch_without_a_single_roi(norm: str) -> None:
    joint = make_joint(backbone={"norm": norm})
    nn.init.constant_(joint.model.rpn.anchor_deltas.bias, -100.0)  # every proposal leaves the image
    losses = joint(random_batch(SIZES), [NOTHING, NOTHING], [1, 2])
    assert losses["roi_class"] == losses["roi_box"] == 0
    total(losses).backward()
    for name, parameter in joint.named_parameters():
        assert not parameter.requires_grad or parameter.grad is not None, name
    for name, buffer in joint.model.named_buffers():
        assert torch.isfinite(buffer).all(), name


# What is left alone


def test_arguments_and_modes_are_left_alone() -> None:
    joint = make_joint()
    images = random_batch(SIZES)
    pixels, boxes = images.pixels.clone(), [t.boxes.clone() for t in TARGETS]
    modes = [m.training for m in joint.modules()]
    joint(images, TARGETS, [1, 2])
    assert torch.equal(images.pixels, pixels)
    assert all(torch.equal(t.boxes, b) for t, b in zip(TARGETS, boxes, strict=True))
    assert [m.training for m in joint.modules()] == modes


def test_training_uses_the_training_numbers_of_proposals(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    original: Callable[..., Any] = joint_module.roi_targets

    def count(proposals: Tensor, *rest: Any) -> Any:
        counts.append(len(proposals))
        return original(proposals, *rest)

    monkeypatch.setattr(joint_module, "roi_targets", count)
    make_joint(rpn={"post_nms_top_n_train": 7, "post_nms_top_n_test": 3})(random_batch(SIZES), TARGETS, [1, 2])
    assert counts == [7, 7]


def descend(joint: JointTraining, images: ImageBatch, targets: Sequence[Target], steps: int) -> list[float]:
    optimizer = torch.optim.SGD((p for p in joint.parameters() if p.requires_grad), lr=0.02, momentum=0.9)
    history = []
    for _ in range(steps):
        loss = total(joint(images, targets, [1, 2]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    return history


def test_two_pictures_are_learned() -> None:
    """Single losses swing, and rounding decides how: processors differ by a tenth at one step, by little in a mean."""
    history = descend(make_joint(), random_batch(SIZES), TARGETS, steps=140)
    assert sum(history[-20:]) / 20 < 0.4 * history[0]
