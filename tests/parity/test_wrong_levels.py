"""Each rule of a feature pyramid or a dilated stage, broken on purpose, is noticed by the recorded outputs.

The rules of all kinds of model are broken in `test_wrong_semantics.py`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2_cases import Case, Reference, fresh_reference
from detectron2_levels import compare_level_stages, compare_levels_end_to_end, recorded_levels
from detectron2_training import TrainingCase, compare_training
from other_settings import changed, rebuilt
from torch import Tensor
from torch.nn import functional as F

from detector.model import fpn, roi_pooling
from detector.model.anchors import AnchorGenerator, AnchorGrid
from detector.model.blocks import Bottleneck
from detector.model.fpn import FPN
from detector.model.resnet import ResNetC5
from detector.model.roi_head import FullyConnectedHead, RoILayers
from detector.structures import FeatureMap, Features
from detector.training import targets
from detector.training.matcher import Matches

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(recorded_levels() is None, reason="no recorded outputs of FPN; set DETECTOR_SHARED"),
]

Mistake = Callable[[Reference, pytest.MonkeyPatch], Reference]
PYRAMID, DILATED, GROUPED = "fpn_r50_w3_c5", "dc5_r50_w3_c4", "fpn_x50_g4_w1_c3"


def with_settings(section: str, **changes: Any) -> Mistake:
    """The same weights in a network of other settings."""

    def make(reference: Reference, _patch: pytest.MonkeyPatch) -> Reference:
        config = changed(reference.config, section, **changes)
        return replace(reference, model=rebuilt(reference.model, config), config=config)

    return make


def upsampled_smoothly(reference: Reference, patch: pytest.MonkeyPatch) -> Reference:
    def add(values: Tensor, coarser: Tensor | None) -> Tensor:
        if coarser is None:
            return values
        return values + F.interpolate(coarser, size=values.shape[2:], mode="bilinear", align_corners=False)

    patch.setattr(fpn, "add_doubled", add)
    return reference


def averaged(reference: Reference, patch: pytest.MonkeyPatch) -> Reference:
    add = fpn.add_doubled
    patch.setattr(fpn, "add_doubled", lambda v, coarser: add(v, coarser) if coarser is None else add(v, coarser) / 2)
    return reference


def summed_after_the_output_convolution(reference: Reference, _patch: pytest.MonkeyPatch) -> Reference:
    backbone = reference.model.backbone
    assert isinstance(backbone, FPN)

    def forward(pixels: Tensor) -> tuple[FeatureMap, ...]:
        level, levels = None, []
        pairs = zip(reversed(backbone.body(pixels)), reversed(backbone.lateral), reversed(backbone.output), strict=True)
        for (values, stride), lateral, output in pairs:
            level = output(fpn.add_doubled(lateral(values), level))
            levels.append(FeatureMap(level, stride))
        return (*reversed(levels), fpn.subsampled(levels[0]))

    backbone.forward = forward  # type: ignore[method-assign]
    return reference


def coarsest_by(pool: Callable[[Tensor], Tensor]) -> Mistake:
    def make(reference: Reference, patch: pytest.MonkeyPatch) -> Reference:
        patch.setattr(fpn, "subsampled", lambda level: FeatureMap(pool(level.values), 2 * level.stride))
        return reference

    return make


def activation_after_each_output(reference: Reference, _patch: pytest.MonkeyPatch) -> Reference:
    backbone = reference.model.backbone
    assert isinstance(backbone, FPN)
    for output in backbone.output:
        output.register_forward_hook(lambda _module, _inputs, out: F.relu(out))
    return reference


def padded_before_normalising(reference: Reference, _patch: pytest.MonkeyPatch) -> Reference:
    normalize = reference.model.normalize
    normalize.forward = lambda images: (images.pixels.float() - normalize.mean) / normalize.std  # type: ignore[method-assign]
    return reference


def all_levels_have_all_sizes_of_the_first(reference: Reference, _patch: pytest.MonkeyPatch) -> Reference:
    anchors = reference.model.anchors
    anchors.base = anchors.base[: anchors.per_cell].repeat(anchors.levels, 1)
    return reference


def levels_in_the_opposite_order(reference: Reference, _patch: pytest.MonkeyPatch) -> Reference:
    anchors = reference.model.anchors
    anchors.base = anchors.base.view(anchors.levels, -1, 4).flip(0).reshape(-1, 4)
    return reference


def a_level_counts_from(finest_size: float) -> Mistake:
    def make(reference: Reference, patch: pytest.MonkeyPatch) -> Reference:
        patch.setattr(roi_pooling, "CANONICAL_SIZE", finest_size)
        return reference

    return make


def level_rounded_to_the_nearest(reference: Reference, patch: pytest.MonkeyPatch) -> Reference:
    levels = roi_pooling.roi_levels

    def nearest(rois: Tensor, count: int, rule: roi_pooling.LevelRule) -> Tensor:
        larger = rois.clone()
        larger[:, 3:] = rois[:, 1:3] + (rois[:, 3:] - rois[:, 1:3]) * 2**0.5
        return levels(larger, count, rule)

    patch.setattr(roi_pooling, "roi_levels", nearest)
    return reference


def everything_from_the_finest_level(reference: Reference, patch: pytest.MonkeyPatch) -> Reference:
    patch.setattr(roi_pooling, "roi_levels", lambda rois, _count, _rule: torch.zeros_like(rois[:, 0]).long())
    return reference


def cells_flattened_before_channels(reference: Reference, patch: pytest.MonkeyPatch) -> Reference:
    forward = RoILayers.forward
    size = reference.config.model.roi.pooled_size

    def other(layers: RoILayers, maps: Tensor) -> Tensor:
        return forward(layers, maps.permute(0, 2, 3, 1).flatten(1).view(maps.shape[0], -1, size, size))

    patch.setattr(RoILayers, "forward", other)
    return reference


def no_activation_after_the_last_layer(reference: Reference, _patch: pytest.MonkeyPatch) -> Reference:
    head = reference.model.roi_head
    assert isinstance(head, FullyConnectedHead)
    layers = head.layers

    def forward(maps: Tensor) -> Tensor:
        first: Tensor = layers.fcs[1](F.relu(layers.fcs[0](maps.flatten(1))))
        return first

    layers.forward = forward  # type: ignore[method-assign]
    return reference


def dilated(first: int, others: int) -> Mistake:
    """Other dilations of the three blocks of conv5_x than 2."""

    def make(reference: Reference, _patch: pytest.MonkeyPatch) -> Reference:
        backbone = reference.model.backbone
        assert isinstance(backbone, ResNetC5)
        for number, block in enumerate(backbone.conv5_x):
            assert isinstance(block, Bottleneck)
            dilation = others if number else first
            block.conv2.dilation = block.conv2.padding = (dilation, dilation)
        return reference

    return make


def top_n_of_all_levels_together(reference: Reference, patch: pytest.MonkeyPatch) -> Reference:
    patch.setattr(reference.model, "propose", lambda features, sizes: _proposed(reference, features, sizes, True))
    return reference


def nms_over_all_levels(reference: Reference, patch: pytest.MonkeyPatch) -> Reference:
    patch.setattr(reference.model, "propose", lambda features, sizes: _proposed(reference, features, sizes, False))
    return reference


def _proposed(reference, features, sizes, per_level_nms):  # type: ignore[no-untyped-def]
    """Proposals of a detector that treats all levels as one map."""
    from detector.model.proposals import select_proposals

    model, settings = reference.model, reference.model.proposal_settings
    scored, grids = model.rpn(features), model.anchors(features)

    class Together:
        def at(self, index: Tensor) -> Tensor:
            return torch.cat([grid.all() for grid in grids])[index]

    proposals = []
    for i, size in enumerate(sizes):
        parts = [(s.logits[i], s.deltas[i]) for s in scored]
        logits, deltas = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
        if per_level_nms:
            threshold = logits.topk(min(settings.pre_nms_top_n, len(logits))).values[-1]
            kept = [(torch.where(p[0] >= threshold, p[0], -torch.inf), p[1]) for p in parts]
            proposals.append(select_proposals(kept, grids, size, settings))
        else:
            whole = replace(settings, pre_nms_top_n=len(logits))
            proposals.append(select_proposals([(logits, deltas)], [Together()], size, whole))  # type: ignore[list-item]
    return proposals


MISTAKES: dict[str, tuple[str, Mistake, str]] = {
    "no padding": (PYRAMID, with_settings("input", pad_to_multiple=1), "rpn_logits"),
    "padding to 64": (PYRAMID, with_settings("input", pad_to_multiple=64), "maps"),
    "padded before normalising": (GROUPED, padded_before_normalising, "preprocessed"),
    "upsampled smoothly": (PYRAMID, upsampled_smoothly, "maps"),
    "average in place of the sum": (PYRAMID, averaged, "maps"),
    "summed after the output convolution": (PYRAMID, summed_after_the_output_convolution, "maps"),
    "activation after the output convolution": (PYRAMID, activation_after_each_output, "maps"),
    "p6 by a maximum": (PYRAMID, coarsest_by(lambda p5: F.max_pool2d(p5, 3, 2, 1)), "maps"),
    "p6 by an average": (PYRAMID, coarsest_by(lambda p5: F.avg_pool2d(p5, 2, ceil_mode=True)), "maps"),
    "p6 after a ReLU": (PYRAMID, coarsest_by(lambda p5: F.relu(p5[:, :, ::2, ::2])), "maps"),
    "anchors of one size on all levels": (PYRAMID, all_levels_have_all_sizes_of_the_first, "proposals"),
    "anchors of the levels swapped": (PYRAMID, levels_in_the_opposite_order, "proposals"),
    "anchors centred on cells": (PYRAMID, with_settings("rpn", anchor_offset=0.5), "proposals"),
    "anchors rounded": (PYRAMID, with_settings("rpn", anchor_rounding=True), "proposals"),
    "measured anchor strides": (PYRAMID, with_settings("rpn", anchor_strides="measured"), "anchors"),
    "top n of all levels together": (GROUPED, top_n_of_all_levels_together, "proposals"),
    "NMS over all levels": (PYRAMID, nms_over_all_levels, "proposals"),
    "level: a pyramid that begins at 112": (PYRAMID, a_level_counts_from(112), "det002"),
    "level: rounded to the nearest": (PYRAMID, level_rounded_to_the_nearest, "det002"),
    "level: all from the finest": (PYRAMID, everything_from_the_finest_level, "det002"),
    "RoIAlign not aligned": (PYRAMID, with_settings("roi", aligned=False), "det002"),
    "RoIAlign of two samples": (DILATED, with_settings("roi", sampling_ratio=2), "det005"),
    "flattened cell by cell": (PYRAMID, cells_flattened_before_channels, "det002"),
    "no activation before the outputs": (PYRAMID, no_activation_after_the_last_layer, "det002"),
    "conv5_x not dilated": (DILATED, dilated(1, 1), "maps"),
    "first block of conv5_x not dilated": (DILATED, dilated(1, 2), "maps"),
    "DC5 padded to 32": (DILATED, with_settings("input", pad_to_multiple=32), "maps"),
    "ResNeXt's stride in the 1×1": (GROUPED, with_settings("backbone", stride_in_1x1=True), "maps"),
    "ResNeXt's pictures not divided by the deviation": (
        GROUPED,
        with_settings("input", pixel_std=(3.0, 3.0, 3.0)),
        "preprocessed",
    ),
}


def case_of(folder: str) -> tuple[Path, Case]:
    root = recorded_levels()
    assert root is not None
    name = {PYRAMID: "coffee", DILATED: "cat", GROUPED: "cat"}[folder]
    return next((root / folder).glob("model.*")), Case(root / folder, name)


@pytest.mark.parametrize("name", MISTAKES)
def test_the_mistake_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, mistake, quantity = MISTAKES[name]
    checkpoint, case = case_of(folder)
    reference = mistake(fresh_reference(checkpoint), monkeypatch)
    found = compare_levels_end_to_end(reference, case).mismatches
    if quantity == "anchors":  # whose boxes, clipped to the picture, may be the same
        found = compare_level_stages(reference, case).mismatches
    assert any(quantity in mismatch.partition(":")[0] for mismatch in found), found


def test_without_a_mistake_nothing_is_reported() -> None:
    for folder in (PYRAMID, DILATED, GROUPED):
        checkpoint, case = case_of(folder)
        assert compare_levels_end_to_end(fresh_reference(checkpoint), case).mismatches == []
        assert compare_level_stages(fresh_reference(checkpoint), case).mismatches == []


# Training


def best_anchor_of_every_level(patch: pytest.MonkeyPatch) -> None:
    match, forward = targets.match, AnchorGenerator.forward
    sizes: list[int] = []

    def counted(anchors: AnchorGenerator, features: Features) -> list[AnchorGrid]:
        grids = forward(anchors, features)
        sizes[:] = [len(grid) for grid in grids]
        return grids

    def by_level(iou: Tensor, positive: float, negative: float, keep_best: bool) -> Matches:
        if not keep_best:
            return match(iou, positive, negative, keep_best)
        parts = [match(part, positive, negative, True) for part in torch.split(iou, sizes, dim=1)]
        return Matches(*(torch.cat([getattr(p, kind) for p in parts]) for kind in ("index", "labels", "iou")))

    patch.setattr(AnchorGenerator, "forward", counted)
    patch.setattr(targets, "match", by_level)


def test_low_quality_matches_of_each_level_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    root = recorded_levels()
    assert root is not None
    best_anchor_of_every_level(monkeypatch)
    found = compare_training(TrainingCase(root / "train_fpn_r50_w3_c5", "all")).mismatches
    assert any(mismatch.startswith("rpn_labels_before_sampling") for mismatch in found), found


def test_anchors_are_as_they_were_recorded() -> None:
    """What `measured` strides would be is not what detectron2 has, and the sizes are one a level."""
    checkpoint, _ = case_of(PYRAMID)
    anchors = fresh_reference(checkpoint).model.anchors
    assert isinstance(anchors, AnchorGenerator)
    assert (anchors.levels, anchors.per_cell, anchors.measured_strides) == (5, 3, False)
