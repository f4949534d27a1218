"""Regions judged with the whole picture in view."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import random_batch, tiny_config, tiny_model, with_model
from torch import Tensor, nn

import detector
from detector.categories import CategoryMap
from detector.config import Config
from detector.errors import UserError
from detector.fast.fuse import fuse
from detector.model.build import build_model
from detector.model.faster_rcnn import FasterRCNN
from detector.model.global_context import ContextLayers, join_context
from detector.structures import FeatureMap, Features, Target
from detector.training.joint import build_joint
from detector.weights.files import save_weights
from detector.weights.initialise import initialise
from detector.weights.lineages.detectron2_export import settings_from_config

SIZES = [(64, 96), (80, 64)]
KINDS: list[dict[str, Any]] = [
    {"backbone": {"depth": 18}},
    {"backbone": {"depth": 50, "width": 4}},
    {"backbone": {"depth": 50, "width": 4}, "roi": {"pooling": "pool"}},
]


def with_context(config: Config, context: bool = True) -> Config:
    return replace(config, model=replace(config.model, roi=replace(config.model.roi, global_context=context)))


def context_of(model: FasterRCNN) -> ContextLayers:
    context = model.roi_head.context
    assert isinstance(context, ContextLayers)
    return context


def fresh(config: Config) -> FasterRCNN:
    """The tiny model of a config, with a context that has not learned anything."""
    model = build_model(with_context(config)).eval()
    model.load_state_dict(tiny_model(config).state_dict(), strict=False)
    return model


def trained(config: Config) -> FasterRCNN:
    """A tiny model whose context says something."""
    model = fresh(config)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        for layer in (context_of(model).cls_score, context_of(model).bbox_pred):
            nn.init.normal_(layer.weight, std=0.2)
    return model


def test_each_region_is_joined_with_its_whole_picture_by_hand() -> None:
    def corners(_features: Features, boxes: list[Tensor]) -> Tensor:
        return torch.cat(boxes)

    features = (FeatureMap(torch.zeros(2, 1, 1, 1), 16),)
    boxes = [torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]), torch.tensor([[9.0, 9, 10, 10]])]
    joined = join_context(corners, features, boxes, [(20, 30), (40, 50)])
    assert joined.tolist() == [
        [1, 2, 3, 4, 0, 0, 30, 20],
        [5, 6, 7, 8, 0, 0, 30, 20],
        [9, 9, 10, 10, 0, 0, 50, 40],
    ]
    assert join_context(corners, features, [boxes[0][:0]] * 2, [(20, 30), (40, 50)]).shape == (0, 8)


def test_it_is_off_unless_it_is_asked_for_and_fresh_changes_nothing() -> None:
    without, joined = tiny_model(tiny_config()), fresh(tiny_config())
    assert without.roi_head.context is None
    added = joined.state_dict().keys() - without.state_dict().keys()
    assert added == {"roi_head.context.cls_score.weight", "roi_head.context.bbox_pred.weight"}
    images = random_batch(SIZES)
    for found, expected in zip(joined(images), without(images), strict=True):
        torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-6)
        torch.testing.assert_close(found.boxes, expected.boxes, rtol=0, atol=1e-4)


def test_the_context_reaches_classes_and_boxes() -> None:
    model, images = trained(tiny_config()), random_batch(SIZES[:1])
    features = model.features(images)
    boxes = [p.boxes for p in model.propose(features, images.sizes)]
    whole = torch.tensor([[0.0, 0, 96, 64]])
    (vector,) = model.roi_head.vectors(features, [whole])
    head = model.roi_head
    own = head.vectors(features, boxes)
    logits, deltas = model.head_outputs(features, boxes, images.sizes)
    context = context_of(model)
    expected = head.cls_score(own) + context.cls_score(vector)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(deltas.flatten(1), head.bbox_pred(own) + context.bbox_pred(vector), rtol=1e-5, atol=1e-5)
    assert context.cls_score(vector).abs().max() > 0.05


def test_padding_is_no_part_of_the_picture() -> None:
    model, images = trained(tiny_config()), random_batch(SIZES)
    seen: list[Any] = []
    model.roi_head.pooling.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[1]))
    model(images)
    ((first, second),) = seen
    assert images.pixels.shape[2:] == (80, 96)
    assert (first[-1].tolist(), second[-1].tolist()) == ([0, 0, 96, 64], [0, 0, 64, 80])


def joint_losses(model: FasterRCNN, config: Config, fast: bool) -> list[float]:
    target = Target(torch.tensor([[8.0, 8, 50, 40]]), torch.tensor([1]))
    losses = build_joint(model, with_context(config).model, fast)(random_batch(SIZES), [target] * 2, [0, 1])
    return [loss.item() for loss in losses.values()]


@pytest.mark.parametrize("kind", ["fpn", "dc5"])
def test_heads_of_other_kinds_have_it_too(kind: str) -> None:
    torch.manual_seed(0)  # at random weights of which rounding decides nothing
    sizes = (16.0, 32.0, 64.0, 96.0, 128.0)
    config = with_model(tiny_config(rpn={"anchor_sizes": sizes}, roi={"pooled_size": 7, "fc_channels": 16}), kind=kind)
    model, images = build_model(with_context(config)).eval(), random_batch(SIZES)
    boxes = [torch.tensor([[8.0, 8, 40, 40]])] * 2
    features = model.features(images)
    before, _ = model.head_outputs(features, boxes, images.sizes)
    nn.init.ones_(context_of(model).cls_score.weight)
    after, _ = model.head_outputs(features, boxes, images.sizes)
    assert before.shape == (2, 4)
    assert (after - before).abs().min() > 0
    assert joint_losses(model, config, True) == pytest.approx(joint_losses(model, config, False), rel=1e-4)
    fused = fuse(model, torch.float64)
    found, _ = fused.head_outputs(fused.features(images), boxes, images.sizes)
    torch.testing.assert_close(found, after, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_readable_and_fast_agree(settings: dict[str, Any]) -> None:
    model, images = trained(tiny_config(**settings)), random_batch(SIZES)
    boxes = [p.boxes for p in model.propose(model.features(images), images.sizes)]
    fused = fuse(model, torch.float64)
    scores, refined = fused.score(fused.features(images), boxes, images.sizes)
    model = model.double()
    expected_scores, expected_boxes = model.score(model.features(images), [b.double() for b in boxes], images.sizes)
    for found, expected in zip(scores, expected_scores, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)
    for found, expected in zip(refined, expected_boxes, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-3)  # pixels, of float32 boxes


@pytest.mark.parametrize("fast", [False, True])
def test_it_is_trained(fast: bool) -> None:
    config = with_context(tiny_config())
    model = fresh(tiny_config()).train()
    target = Target(torch.tensor([[8.0, 8, 50, 40]]), torch.tensor([1]))
    losses = build_joint(model, config.model, fast)(random_batch(SIZES), [target] * 2, [0, 1])
    torch.stack(list(losses.values())).sum().backward()
    for layer in (context_of(model).cls_score, context_of(model).bbox_pred):
        assert layer.weight.grad is not None
        assert layer.weight.grad.abs().sum() > 0


def test_a_head_that_is_not_told_the_sizes_says_so() -> None:
    model = trained(tiny_config())
    with pytest.raises(AssertionError, match="must be told the pictures' sizes"):
        model.score(model.features(random_batch(SIZES[:1])), [torch.tensor([[0.0, 0, 9, 9]])])


def test_weights_without_it_load_and_those_with_it_go_round(tmp_path: Path) -> None:
    names = CategoryMap.from_names(["cat", "dog", "cow"])
    plain, joined = tmp_path / "plain.safetensors", tmp_path / "joined.safetensors"
    save_weights(plain, tiny_model(tiny_config()).state_dict(), tiny_config(), names, {})
    config = with_context(tiny_config())
    config = replace(config, model=replace(config.model, weights=str(plain)))
    report = initialise(build_model(config), config, names)
    assert report is not None
    assert report.fresh == ["roi_head.context.cls_score.weight", "roi_head.context.bbox_pred.weight"]

    model = trained(tiny_config())
    save_weights(joined, model.state_dict(), with_context(tiny_config()), names, {})
    predictor = detector.load(joined, device="cpu")
    assert all(torch.equal(t, model.state_dict()[name]) for name, t in predictor.model.state_dict().items())
    picture = np.full((64, 96, 3), 90, np.uint8)
    for augment in (None, "average", "maxout"):
        assert len(predictor.predict(picture, 0.0, augment=augment)) > 0  # type: ignore[arg-type]


def test_its_rows_follow_the_names_of_classes(tmp_path: Path) -> None:
    path, source = tmp_path / "w.safetensors", trained(tiny_config())
    save_weights(path, source.state_dict(), with_context(tiny_config()), CategoryMap.from_names(["a", "b", "c"]), {})
    config = with_context(tiny_config(num_classes=2))
    config = replace(config, model=replace(config.model, weights=str(path)))
    model = build_model(config)
    initialise(model, config, CategoryMap.from_names(["new", "b"]))
    scores, boxes = context_of(model).cls_score.weight, context_of(model).bbox_pred.weight
    assert torch.equal(scores[[0, 2]], context_of(source).cls_score.weight[[0, 2]])
    assert torch.equal(boxes[4:], context_of(source).bbox_pred.weight[4:8])
    assert scores[1].abs().sum() == boxes[:4].abs().sum() == 0


def test_detectron2_has_no_counterpart() -> None:
    with pytest.raises(UserError, match=r"no counterpart for model.roi.global_context=True"):
        settings_from_config(with_context(tiny_config(backbone={"depth": 50})))
