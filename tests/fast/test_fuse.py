"""The fast execution against the readable path, for every kind of network."""

import dataclasses
import logging
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from kernels import forget_the_processor
from photographs import photographs
from tiny_models import calibrate, random_batch, randomize_norms, tiny_config, tiny_model

from detector.config import Config, DetectionConfig, ModelConfig
from detector.errors import UserError
from detector.fast import choose
from detector.fast.fuse import fuse
from detector.model.build import build_model
from detector.model.faster_rcnn import FasterRCNN
from detector.structures import ImageBatch, Selection

KINDS: list[dict[str, Any]] = [
    {"backbone": {"depth": 18}},
    {"backbone": {"depth": 34, "norm": "batch"}, "roi": {"pooling": "pool"}},
    {"backbone": {"depth": 50}},
    {"backbone": {"depth": 50, "stride_in_1x1": False}, "roi": {"aligned": False, "sampling_ratio": 2}},
    {"backbone": {"depth": 50, "stride_in_1x1": False}, "roi": {"pooled_size": 7}},
    {"backbone": {"depth": 50}, "roi": {"pooling": "pool"}},
    {"backbone": {"depth": 101, "norm": "batch", "width": 4}},
    {"backbone": {"depth": 152, "conv5_norm": "batch", "width": 4}, "num_classes": 1},
    {"backbone": {"depth": 34, "norm": "group"}},
    {"backbone": {"depth": 50, "norm": "group", "stride_in_1x1": False}},
    {"backbone": {"depth": 50, "conv5_norm": "group"}},
    {"backbone": {"depth": 50, "stem_channels": 32, "width": 32}},  # wide enough for Winograd
]
every_kind = pytest.mark.parametrize("settings", KINDS, ids=str)


def readable(model: FasterRCNN, images: ImageBatch) -> list[Selection]:
    with torch.inference_mode():
        return model(images)


def assert_same(found: list[Selection], expected: list[Selection]) -> None:
    """One partner for every detection; two whose scores are equal to rounding may have changed places."""
    assert [len(f) for f in found] == [len(e) for e in expected]
    for f, e in zip(found, expected, strict=True):
        near = (f.boxes[:, None] - e.boxes).abs().amax(dim=2) < 1e-3
        near &= (f.scores[:, None] - e.scores).abs() < 1e-5
        near &= f.labels[:, None] == e.labels
        assert torch.equal(near.sum(dim=1), torch.ones(len(f), dtype=torch.int64))
        assert torch.equal(near.sum(dim=0), torch.ones(len(e), dtype=torch.int64))


@every_kind
def test_same_detections_on_photographs_of_many_sizes(settings: dict[str, Any], shared: Path) -> None:
    model = tiny_model(tiny_config(**settings))
    fused = fuse(model)
    total = 0
    for i, min_size in enumerate((96, 143, 200, 301)):
        (images,) = photographs(shared, 1, min_size, first=3 * i)
        expected = readable(model, images)
        assert_same(fused(images), expected)
        total += len(expected[0])
    assert total > 40


@every_kind
def test_same_detections_in_a_padded_batch(settings: dict[str, Any]) -> None:
    model = tiny_model(tiny_config(**settings))
    images = random_batch([(96, 128), (80, 100), (113, 65)])
    expected = readable(model, images)
    assert min(len(e) for e in expected) > 10
    assert_same(fuse(model)(images), expected)


@every_kind
def test_same_vectors_in_float64(settings: dict[str, Any]) -> None:
    model = tiny_model(tiny_config(**settings))
    fused = fuse(model, torch.float64)
    images = random_batch([(96, 128), (80, 100)])
    # Beyond the proposals of the network: on the last pixel, without area, across the border, outside.
    edge = torch.tensor([[127.9, 95.9, 128, 96], [50, 50, 50, 50], [-60, -60, 200, 200], [200, 150, 230, 190]])
    boxes = [torch.cat((p.boxes, edge)) for p in model.propose(model.features(images), images.sizes)]
    model = model.double()
    expected = model.roi_head.conv5_x(model.roi_head.pooling(model.features(images), boxes))
    found = fused.roi_head.vectors(fused.features(images), boxes)
    assert expected.abs().max() > 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"backbone": {"depth": depth, "stride_in_1x1": stride, "stem_channels": 64, "width": 64}, "roi": {"pooling": p}}
        for depth, stride, p in [
            (18, True, "align"),
            (34, True, "pool"),
            (50, True, "align"),
            (50, False, "pool"),
            (101, False, "align"),
            (101, True, "align"),
            (152, True, "align"),
        ]
    ],
    ids=str,
)
def test_same_detections_at_full_width(settings: dict[str, Any], shared: Path) -> None:
    model = tiny_model(tiny_config(num_classes=80, rpn={"post_nms_top_n_test": 150}, **settings))
    fused = fuse(model)
    for i, min_size in enumerate((160, 260, 400)):
        (images,) = photographs(shared, 1, min_size, first=4 * i)
        assert_same(fused(images), readable(model, images))


@pytest.mark.slow
def test_same_detections_as_the_published_network_is_used(shared: Path) -> None:
    config = Config(model=ModelConfig(num_classes=80, detection=DetectionConfig(score_threshold=0.02)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(config).eval()
        randomize_norms(model)
        calibrate(model, photographs(shared, 1, 320)[0])
    (images,) = photographs(shared, 1, 800, first=7)
    expected = readable(model, images)
    assert len(expected[0]) == 100
    assert_same(fuse(model)(images), expected)


@pytest.mark.parametrize("settings", [KINDS[0], KINDS[2], KINDS[5], KINDS[9]], ids=str)
def test_bfloat16_is_near(settings: dict[str, Any]) -> None:
    model = tiny_model(tiny_config(**settings))
    images = random_batch([(96, 128)])
    boxes = [p.boxes for p in model.propose(model.features(images), images.sizes)]
    exact, near = fuse(model), fuse(model, torch.bfloat16)
    expected = exact.roi_head.vectors(exact.features(images), boxes)
    found = near.roi_head.vectors(near.features(images), boxes)
    assert found.dtype == torch.float32
    assert (found - expected).norm() / expected.norm() < 0.05
    (detections,) = near(images)
    assert len(detections) > 10
    assert (detections.boxes.dtype, detections.scores.dtype) == (torch.float32, torch.float32)


def test_without_fused_convolutions_it_says_so_and_finds_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model(tiny_config(**KINDS[2]))
    images = random_batch([(96, 128)])
    forget_the_processor(monkeypatch)
    monkeypatch.setattr(choose, "onednn_fault", lambda dtype: f"no {dtype} today")
    with caplog.at_level(logging.WARNING):
        fused = fuse(model)
    assert "no torch.float32 today" in caplog.text
    assert not fused.backbone.execution.onednn
    assert_same(fused(images), readable(model, images))


@pytest.mark.slow
def test_compiled_gives_the_same_detections(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_model(tiny_config(**KINDS[2]))
    fused = fuse(model, compiled=True)
    with caplog.at_level(logging.WARNING):
        for size in ((96, 128), (96, 128), (64, 96)):
            images = random_batch([size])
            assert_same(fused(images), readable(model, images))
    assert "failed" not in caplog.text


def test_where_compiling_fails_it_says_so_and_finds_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fails = Mock(side_effect=RuntimeError("no compiler here\nand a long explanation"))
    monkeypatch.setattr(torch, "compile", Mock(return_value=fails))
    model = tiny_model(tiny_config(**KINDS[2]))
    fused = fuse(model, compiled=True)
    images = random_batch([(96, 128)])
    with caplog.at_level(logging.WARNING):
        assert_same(fused(images), readable(model, images))
        assert_same(fused(images), readable(model, images))
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        "Compiling the backbone failed",
        "Compiling conv5_x failed",
    ]
    assert "(no compiler here)" in caplog.text


def test_out_of_memory_is_no_failed_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    fails = Mock(side_effect=torch.OutOfMemoryError("CUDA out of memory"))
    monkeypatch.setattr(torch, "compile", Mock(return_value=fails))
    fused = fuse(tiny_model(tiny_config()), compiled=True)
    with pytest.raises(torch.OutOfMemoryError):
        fused(random_batch([(96, 128)]))


def test_it_copies() -> None:
    model = tiny_model(tiny_config())
    images = random_batch([(96, 128)])
    fused = fuse(model)
    before = fused(images)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.fill_(1.0)
    assert_same(fused(images), before)


def test_no_proposals_give_no_detections() -> None:
    model = tiny_model(tiny_config())
    model.proposal_settings = dataclasses.replace(model.proposal_settings, min_size=1000.0)
    (found,) = fuse(model)(random_batch([(96, 128)]))
    assert found.boxes.shape == (0, 4)
    assert found.labels.dtype == torch.int64


def test_a_network_in_training_mode_is_executed_as_in_evaluation_and_left_as_it_is() -> None:
    model = tiny_model(tiny_config(backbone={"norm": "batch"}))
    images = random_batch([(96, 128)])
    expected = readable(model, images)
    model.train()
    assert_same(fuse(model)(images), expected)
    assert model.training


@every_kind
def test_every_stage_gives_what_the_plain_one_gives(settings: dict[str, Any]) -> None:
    model = tiny_model(tiny_config(**settings))
    fused = fuse(model)
    images = random_batch([(96, 128), (80, 100)])
    with torch.inference_mode():
        features, fast_features = model.features(images), fused.features(images)
        assert [f.stride for f in fast_features] == [f.stride for f in features]
        for fast_map, plain_map in zip(fast_features, features, strict=True):
            torch.testing.assert_close(fast_map.values, plain_map.values, rtol=0, atol=1e-3)
        for fast_scores, plain_scores in zip(fused.rpn(features), model.rpn(features), strict=True):
            torch.testing.assert_close(fast_scores, plain_scores, rtol=0, atol=1e-3)
        chosen = [torch.tensor([3, 0, 100]), torch.tensor([7])]
        torch.testing.assert_close(fused.rpn.at(features, chosen), model.rpn.at(features, chosen), rtol=0, atol=1e-3)
        boxes = [p.boxes for p in model.propose(features, images.sizes)]
        for fast_rows, plain_rows in zip(fused.score(features, boxes), model.score(features, boxes), strict=True):
            torch.testing.assert_close(fast_rows, plain_rows, rtol=0, atol=1e-3)


def test_it_is_the_same_class_and_holds_nothing_to_train() -> None:
    model = tiny_model(tiny_config(backbone={"norm": "group"}))
    fused = fuse(model)
    assert type(fused) is type(model)
    assert not any(parameter.requires_grad for parameter in fused.parameters())
    assert all(parameter.requires_grad for parameter in model.roi_head.parameters())


def test_a_fused_network_is_not_fused_again() -> None:
    with pytest.raises(UserError, match="is fused already; give the one that build_model"):
        fuse(fuse(tiny_model(tiny_config())))


def test_other_types_are_refused() -> None:
    with pytest.raises(UserError, match="bfloat16"):
        fuse(tiny_model(tiny_config()), torch.float16)
