"""The network in slots: on a CPU, where nothing must wait, it finds what the stages find one by one."""

from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from device_cases import network, same_detections
from tiny_models import one_of, random_batch

from detector.fast import postprocess
from detector.fast.postprocess import classes_above
from detector.fast.proposals import limits_of, proposal_slots
from detector.fast.slots import SlotFasterRCNN
from detector.model.faster_rcnn import FasterRCNN
from detector.model.proposals import Ranking, select_proposals
from detector.model.rpn import AnchorScores
from detector.structures import Selection

IMAGES = random_batch([(96, 128), (120, 100), (60, 60)])
IMAGES.original_sizes[:] = [(48, 256), (120, 100), (600, 30)]
MANY = {"post_nms_top_n": 150, "pre_nms_top_n": 400, "min_size": 20.0}


def in_slots(model: FasterRCNN, **changes: Any) -> tuple[list[Selection], list[Selection]]:
    """What the model selects in slots, and stage by stage; `changes` are of its settings."""
    parts = (model.normalize, model.backbone, model.anchors, model.rpn, model.roi_head)
    proposals, detections = (
        replace(settings, **{k: v for k, v in changes.items() if hasattr(settings, k)})
        for settings in (model.proposal_settings, model.detection_settings)
    )
    with torch.inference_mode():
        return (
            SlotFasterRCNN(*parts, proposals, detections).eval()(IMAGES),
            FasterRCNN(*parts, proposals, detections).eval()(IMAGES),
        )


@pytest.mark.parametrize("kind", ["basic blocks", "torchvision's"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        MANY,  # more slots than proposals
        {"score_threshold": 0.0, "max_per_image": 10_000, "post_nms_top_n": 20},
        {"nms_frame": "original", "limit_shrinking": True},
        {"score_threshold": 1.0},
        {"min_size": 10_000.0},
    ],
    ids=str,
)
def test_the_same_detections(kind: str, changes: dict[str, Any]) -> None:
    found, expected = in_slots(network(kind)[0], **changes)
    assert [len(one) for one in found] == [len(one) for one in expected]
    compared = same_detections(found, expected)
    assert not compared.mismatches, compared.mismatches
    for selection in found:
        assert (selection.boxes.dtype, selection.labels.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize("kind", ["basic blocks", "torchvision's"])
def test_proposals_are_the_same_to_the_bit_and_empty_slots_come_last(kind: str) -> None:
    model, _ = network(kind)
    settings = replace(model.proposal_settings, post_nms_top_n=300)
    with torch.inference_mode():
        features = model.features(IMAGES)
        scored, grids = model.rpn(features), model.anchors(features)
        found = proposal_slots(scored, grids, limits_of(IMAGES.sizes, model.device), settings)
        for i, size in enumerate(IMAGES.sizes):
            expected = select_proposals([(s.logits[i], s.deltas[i]) for s in scored], grids, size, settings)
            count = len(expected.logits)
            assert 0 < count < found.valid.shape[1]
            assert found.valid[i].sum() == found.valid[i, :count].sum() == count
            assert torch.equal(found.boxes[i, :count], expected.boxes)
            assert torch.equal(found.logits[i, :count], expected.logits)
            assert (found.boxes[i, count:] == 0).all()
            assert (found.logits[i, count:] == -torch.inf).all()


@pytest.mark.parametrize("rank_by", ["logit", "sigmoid", "sigmoid_after_top_n"])
def test_several_maps_are_thinned_out_alone_and_the_best_of_all_are_kept(rank_by: Ranking) -> None:
    model, _ = network("basic blocks")
    with torch.inference_mode():
        (features,) = model.features(IMAGES)
        both = (features, features._replace(values=features.values[:, :, ::2, ::2].contiguous(), stride=32))
        scored, grids = model.rpn(both), model.anchors(both)
        scored = [AnchorScores(s.logits * 40 + 15 + i, s.deltas) for i, s in enumerate(scored)]  # many sigmoids are 1
        for count in (10, 1000):
            settings = replace(
                model.proposal_settings, post_nms_top_n=count, pre_nms_top_n=200, rank_by=rank_by, limit_shrinking=True
            )
            found = proposal_slots(scored, grids, limits_of(IMAGES.sizes, model.device), settings)
            for i, size in enumerate(IMAGES.sizes):
                expected = select_proposals([(s.logits[i], s.deltas[i]) for s in scored], grids, size, settings)
                assert torch.equal(found.boxes[i, found.valid[i]], expected.boxes)
                assert torch.equal(found.logits[i, found.valid[i]], expected.logits)


def test_what_is_not_finite_is_left_out() -> None:
    model, _ = network("basic blocks")
    with torch.inference_mode():
        features = model.features(IMAGES)
        ((logits, deltas),), grids = model.rpn(features), model.anchors(features)
        logits[0, ::3], deltas[1, ::2, 1] = torch.nan, torch.inf
        limits = limits_of(IMAGES.sizes, model.device)
        found = proposal_slots([AnchorScores(logits, deltas)], grids, limits, model.proposal_settings)
        assert torch.isfinite(found.boxes).all()
        for i, size in enumerate(IMAGES.sizes):
            expected = select_proposals([(logits[i], deltas[i])], grids, size, model.proposal_settings)
            assert torch.equal(found.boxes[i, found.valid[i]], expected.boxes)


def test_regions_whose_numbers_are_not_finite_select_nothing() -> None:
    model, _ = network("basic blocks")
    head = model.roi_head
    spoilt = type(
        "Spoilt", (torch.nn.Module,), {"forward": lambda _self, *given: tuple(t * torch.nan for t in head(*given))}
    )
    parts = (model.normalize, model.backbone, model.anchors, model.rpn, spoilt())
    with torch.inference_mode():
        found = SlotFasterRCNN(*parts, model.proposal_settings, model.detection_settings)(one_of(IMAGES, 0))
    assert [len(one) for one in found] == [0]


@pytest.mark.parametrize(("threshold", "expected"), [(0.0, 80), (0.05, 21), (0.5, 3), (0.999, 2), (1.0, 2)])
def test_how_many_classes_of_a_region_can_pass(threshold: float, expected: int) -> None:
    assert classes_above(threshold, 80) == expected
    assert classes_above(threshold, 1) == 1


def test_selections_are_a_sequence_and_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    slots = torch.tensor([[[1.0, 2, 3, 4, 0.5, 2], [5, 6, 7, 8, 0.25, 1]], [[0.0] * 6] * 2, [[1.0] * 6, [0.0] * 6]])
    read = Mock(side_effect=postprocess.read_slots)
    monkeypatch.setattr(postprocess, "read_slots", read)
    found = postprocess.SlotSelections(slots)
    assert len(found) == 3
    assert read.call_count == 0
    assert [len(selection) for selection in found] == [2, 0, 1]
    assert found[0].boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert (found[0].scores.tolist(), found[0].labels.tolist()) == ([0.5, 0.25], [2, 1])
    assert len(found[1:]) == 2
    assert read.call_count == 1
