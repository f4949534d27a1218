"""The network as a whole, with small random weights."""

from typing import Any

import pytest
import torch
from tiny_models import one_of, random_batch, tiny_config, tiny_model
from torch import nn

from detector.model.faster_rcnn import FasterRCNN
from detector.structures import ImageBatch, Proposals, Selection


@pytest.fixture(scope="module")
def model() -> FasterRCNN:
    return tiny_model(tiny_config())


def assert_equal(found: Selection, expected: Selection) -> None:
    assert len(expected) > 0
    assert found.labels.tolist() == expected.labels.tolist()
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="basic blocks"),
        pytest.param({"backbone": {"depth": 50}}, id="bottlenecks"),
        pytest.param({"backbone": {"depth": 50, "stride_in_1x1": False}}, id="stride in 3x3"),
        pytest.param({"backbone": {"depth": 34, "norm": "group"}}, id="group norm"),
        pytest.param({"backbone": {"depth": 50, "norm": "batch"}}, id="live batch norm"),
        pytest.param({"backbone": {"conv5_norm": "group"}}, id="conv5_x with a norm of its own"),
        pytest.param({"roi": {"pooling": "pool"}}, id="RoIPool"),
        pytest.param({"roi": {"pooled_size": 7}}, id="smaller RoIs"),
        pytest.param({"rpn": {"anchor_sizes": (24.0,), "anchor_ratios": (1.0,), "channels": 6}}, id="one anchor"),
        pytest.param({"num_classes": 1}, id="one class"),
    ],
)
def test_every_kind_of_network_detects_in_a_batch_of_different_sizes(settings: dict[str, Any]) -> None:
    config = tiny_config(**settings)
    model = tiny_model(config)
    images = random_batch([(96, 128), (80, 100), (113, 65)])
    with torch.inference_mode():
        found = model(images)
    assert len(found) == 3
    for detections, (height, width) in zip(found, images.sizes, strict=True):
        assert 0 < len(detections) <= 100
        boxes, scores, labels = detections.boxes, detections.scores, detections.labels
        assert (boxes.dtype, scores.dtype, labels.dtype) == (torch.float32, torch.float32, torch.int64)
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2] <= width).all()
        assert (boxes[:, 3] <= height).all()
        assert (scores > 0.05).all()
        assert (scores <= 1).all()
        assert (scores[:-1] >= scores[1:]).all()
        assert set(labels.tolist()) <= set(range(1, (config.model.num_classes or 0) + 1))


def test_pictures_of_one_size_do_not_influence_each_other(model: FasterRCNN) -> None:
    images = random_batch([(96, 128)] * 3)
    with torch.inference_mode():
        together = model(images)
        for i in range(3):
            assert_equal(together[i], model(one_of(images, i))[0])


def test_every_stage_can_be_reached(model: FasterRCNN) -> None:
    images = random_batch([(96, 128), (80, 100)])
    with torch.inference_mode():
        features = model.features(images)
        assert [(f.values.shape, f.stride) for f in features] == [((2, model.backbone.out_channels, 6, 8), 16)]
        proposals = model.propose(features, images.sizes)
        assert all(len(p.logits) > 0 for p in proposals)
        scores, boxes = model.score(features, [p.boxes for p in proposals])
        for p, s, b in zip(proposals, scores, boxes, strict=True):
            assert (s.shape, b.shape) == ((len(p.logits), 4), (len(p.logits), 3, 4))
            torch.testing.assert_close(s.sum(dim=1), torch.ones(len(s)))
        selected = model.select(scores, boxes, images.sizes)
        for found, expected, s in zip(selected, model(images), scores, strict=True):
            assert_equal(found, expected)
            assert found.scores[0] == s[:, 1:].max()


def test_any_boxes_can_be_scored_and_scored_again(model: FasterRCNN) -> None:
    images = random_batch([(96, 128), (80, 100)])
    own = torch.tensor([[10.0, 10, 60, 50], [70, 40, 120, 90], [0, 0, 128, 96]])
    with torch.inference_mode():
        features = model.features(images)
        (scores, none), (boxes, _) = model.score(features, [own, torch.zeros(0, 4)])
        assert (scores.shape, boxes.shape, none.shape) == ((3, 4), (3, 3, 4), (0, 4))
        alone, _ = model.score(features, [own[1:2], torch.zeros(0, 4)])
        torch.testing.assert_close(alone[0], scores[1:2])
        refined, _ = model.score(features, [boxes[:, 0], torch.zeros(0, 4)])
    assert not torch.allclose(refined[0], scores)


def test_no_gradient_flows_through_proposals() -> None:
    model = tiny_model(tiny_config()).train()
    images = random_batch([(96, 128)])
    features = model.features(images)
    assert features[0].values.requires_grad
    (proposals,) = model.propose(features, images.sizes)
    assert not proposals.boxes.requires_grad
    assert not proposals.logits.requires_grad


# Normalisation and padding


def test_normalisation_by_hand() -> None:
    model = tiny_model(tiny_config(inputs={"pixel_mean": (10.0, 20.0, 30.0), "pixel_std": (1.0, 2.0, 5.0)}))
    pixels = torch.tensor([11, 24, 50], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    for kind in (torch.uint8, torch.float32):
        normalized = model.normalize(ImageBatch(pixels.to(kind), [(2, 2)], [(2, 2)], [0]))
        assert normalized[0, :, 1, 1].tolist() == [1.0, 2.0, 4.0]
        assert normalized.dtype == torch.float32


def test_the_padding_is_zero_after_normalisation_whatever_it_held(model: FasterRCNN) -> None:
    images = random_batch([(96, 128), (80, 100)])
    normalized = model.normalize(images)
    assert normalized[1, :, 80:, :].abs().max() == 0
    assert normalized[1, :, :, 100:].abs().max() == 0
    assert (normalized[1, :, :80, :100] != 0).float().mean() > 0.99

    garbage = ImageBatch(images.pixels.clone(), images.sizes, images.original_sizes, images.image_ids)
    garbage.pixels[1, :, 80:, :] = 255
    garbage.pixels[1, :, :, 100:] = 7
    assert torch.equal(model.normalize(garbage), normalized)


def test_input_as_floats_equals_input_as_bytes(model: FasterRCNN) -> None:
    images = random_batch([(96, 128)])
    as_floats = ImageBatch(images.pixels.float(), images.sizes, images.original_sizes, images.image_ids)
    with torch.inference_mode():
        assert_equal(model(as_floats)[0], model(images)[0])


# What forward leaves alone


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_forward_changes_neither_its_arguments_nor_the_mode(training: bool, kind: torch.dtype) -> None:
    model = tiny_model(tiny_config()).train(training)
    images = random_batch([(96, 128), (80, 100)])
    images = ImageBatch(images.pixels.to(kind), images.sizes, images.original_sizes, images.image_ids)
    pixels, sizes = images.pixels.clone(), list(images.sizes)
    modes = [m.training for m in model.modules()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        model(images)
    assert torch.equal(images.pixels, pixels)
    assert images.sizes == sizes
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_detecting_twice_gives_the_same(model: FasterRCNN) -> None:
    images = random_batch([(96, 128)])
    with torch.inference_mode():
        first, second = model(images)[0], model(images)[0]
    assert torch.equal(first.boxes, second.boxes)
    assert torch.equal(first.scores, second.scores)


# Nothing to see


def test_no_proposals_at_all() -> None:
    model = tiny_model(tiny_config())
    nn.init.constant_(model.rpn.anchor_deltas.bias, -100.0)  # every box leaves the image
    images = random_batch([(96, 128), (80, 100)])
    with torch.inference_mode():
        assert [len(p.logits) for p in model.propose(model.features(images), images.sizes)] == [0, 0]
        assert [len(found) for found in model(images)] == [0, 0]


def test_one_picture_of_a_batch_without_proposals(model: FasterRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_batch([(96, 128)] * 3)
    with torch.inference_mode():
        expected = model(images)
        propose = model.propose

        def all_but_the_second(*arguments: Any) -> list[Proposals]:
            found = propose(*arguments)
            found[1] = Proposals(torch.zeros(0, 4), torch.zeros(0))
            return found

        monkeypatch.setattr(model, "propose", all_but_the_second)
        found = model(images)
    assert len(found[1]) == 0
    assert_equal(found[0], expected[0])
    assert_equal(found[2], expected[2])


def test_proposals_but_no_detections() -> None:
    model = tiny_model(tiny_config())
    with torch.inference_mode():
        model.roi_head.cls_score.bias[0] = 1000.0
        found = model(random_batch([(96, 128)]))
    assert len(found[0]) == 0


# Other


def test_the_smallest_picture(model: FasterRCNN) -> None:
    with torch.inference_mode():
        found = model(random_batch([(1, 1)]))
    assert len(found) == 1
    assert (found[0].boxes <= 1).all()


def test_the_device_is_that_of_the_weights_and_moves_with_them(model: FasterRCNN) -> None:
    assert model.device == torch.device("cpu")
    assert tiny_model(tiny_config()).to("meta").device == torch.device("meta")


def test_pixel_statistics_and_anchors_are_no_part_of_the_weights(model: FasterRCNN) -> None:
    parts = {name.split(".")[0] for name in model.state_dict()}
    assert parts == {"backbone", "rpn", "roi_head"}
