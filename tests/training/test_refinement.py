"""The second pass of the head over its own boxes, in training."""

from typing import Any

import pytest
import torch
from tiny_models import random_batch, tiny_config, tiny_model
from torch import Tensor, nn

from detector.boxes import clip
from detector.structures import Target
from detector.training.joint import JointTraining, build_joint
from detector.training.targets import RoITargetSettings, refined_targets

SIZES = [(96, 128), (80, 100)]
TARGETS = [
    Target(torch.tensor([[10.0, 10, 60, 50], [70, 40, 120, 90]]), torch.tensor([2, 3])),
    Target(torch.tensor([[20.0, 20, 90, 75]]), torch.tensor([1])),
]
SETTINGS = RoITargetSettings(0.5, batch_size_per_image=2, positive_fraction=0.25, delta_weights=(1.0, 1.0, 1.0, 1.0))


def make_joint(refine: bool, fast: bool = True, **settings: Any) -> JointTraining:
    config = tiny_config(roi={"train_refinement": refine}, **settings)
    return build_joint(tiny_model(config).train(), config.model, fast)


def losses_of(joint: JointTraining) -> dict[str, Tensor]:
    return joint(random_batch(SIZES), TARGETS, [1, 2])


def set_outputs(joint: JointTraining, move: float) -> None:
    """Have the head say nothing about classes, and move every box by so many of its widths to the right."""
    head = joint.model.roi_head
    for layer in (head.cls_score, head.bbox_pred):
        assert isinstance(layer, nn.Linear)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    with torch.no_grad():
        head.bbox_pred.bias[0::4] = move * 10  # the weight of t_x


def test_targets_by_hand() -> None:
    target = Target(torch.tensor([[0.0, 0, 40, 40], [50, 0, 90, 40]]), torch.tensor([3, 1]))
    boxes = torch.tensor([[60.0, 60, 90, 90], [0, 0, 40, 20], [54, 0, 94, 40], [0, 0, 40, 19]])
    found = refined_targets(boxes, target, SETTINGS)
    assert found.boxes.tolist() == boxes[[1, 2, 0, 3]].tolist(), (
        "the foreground first; IoU 20/40 is enough, 19/40 is not"
    )
    assert found.labels.tolist() == [3, 1, 0, 0], "more than would be sampled"
    torch.testing.assert_close(found.deltas, torch.tensor([[0, 0.5, 0, 0.6931472], [-0.1, 0, 0, 0]]))


def test_without_objects_all_are_background() -> None:
    nothing = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    found = refined_targets(torch.tensor([[0.0, 0, 4, 4]]), nothing, SETTINGS)
    assert (found.labels.tolist(), found.deltas.shape) == ([0], (0, 4))


def test_it_is_off_unless_it_is_asked_for_and_adds_two_losses() -> None:
    without, refined = losses_of(make_joint(False)), losses_of(make_joint(True))
    assert list(refined) == [*without, "refine_class", "refine_box"]
    for name, loss in without.items():
        assert torch.equal(refined[name], loss), name
    assert refined["refine_class"] > 0
    assert refined["refine_box"] > 0


def test_boxes_that_the_head_leaves_alone_have_the_first_passes_targets() -> None:
    joint = make_joint(True)
    set_outputs(joint, move=0.0)
    losses = losses_of(joint)
    torch.testing.assert_close(losses["refine_class"], losses["roi_class"])
    torch.testing.assert_close(losses["refine_box"], losses["roi_box"], rtol=1e-4, atol=1e-4)


def test_the_second_pass_sees_the_boxes_of_the_first() -> None:
    joint = make_joint(True)
    set_outputs(joint, move=0.1)
    head, seen = joint.network.roi_head, []
    assert isinstance(head, nn.Module)
    head.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[1]))
    losses_of(joint)
    for first, second, size in zip(*seen, SIZES, strict=True):
        width = first[:, 2] - first[:, 0]
        moved = clip(first + 0.1 * width[:, None] * torch.tensor([1.0, 0, 1, 0]), size)
        assert len(second) == len(moved) == 16
        torch.testing.assert_close(ordered(second), ordered(moved), rtol=0, atol=1e-3)


def ordered(boxes: Tensor) -> Tensor:
    """Boxes [R, 4] by their weighted sums, which differ."""
    return boxes[(boxes @ torch.tensor([1.0, 3.1, 7.3, 17.9])).argsort()]


@pytest.mark.parametrize("norm", ["frozen_batch", "batch"])
def test_boxes_that_have_left_the_picture_are_not_looked_at(norm: str) -> None:
    joint = make_joint(True, backbone={"norm": norm, "freeze_stages": 0})
    set_outputs(joint, move=100.0)
    losses = losses_of(joint)
    assert losses["refine_class"] == losses["refine_box"] == 0
    torch.stack(list(losses.values())).sum().backward()
    for parameter in joint.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


def test_no_gradient_flows_through_the_boxes() -> None:
    """The first pass's outputs get their gradient from the first pass's losses alone."""
    gradients = []
    for names in (("roi_box", "roi_class"), ("refine_box", "refine_class")):
        joint = make_joint(True)
        head = joint.model.roi_head
        outputs: list[Tensor] = []
        head.bbox_pred.register_forward_hook(lambda _m, _i, out, to=outputs: (out.retain_grad(), to.append(out))[1])
        losses = losses_of(joint)
        (losses[names[0]] + losses[names[1]]).backward()
        gradients.append([out.grad is not None and bool(out.grad.abs().sum() > 0) for out in outputs])
    assert gradients == [[True, False], [False, True]]


@pytest.mark.parametrize("depth", [18, 50])
def test_readable_and_fast_agree(depth: int) -> None:
    plain, fast = (losses_of(make_joint(True, fast, backbone={"depth": depth})) for fast in (False, True))
    for name, loss in plain.items():
        assert fast[name].item() == pytest.approx(loss.item(), rel=1e-3, abs=1e-4), name
