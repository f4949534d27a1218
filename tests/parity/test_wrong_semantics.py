"""The comparison with detectron2 notices every mistake that its references were made to show.

Each mistake of the references' README ("How far wrong semantics land") is made on purpose, one at a time.
"""

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import detectron2_inference
import numpy as np
import pytest
import torch
import torchvision
from comparison import Comparison
from detectron2_cases import EMBEDDED, Reference, checkpoints, fresh_reference, inference_cases
from detectron2_inference import compare_end_to_end
from detectron2_training import compare_training, training_cases
from detectron2_units import compare_units, read_units
from other_settings import changed, rebuilt
from torch import Tensor
from torch.nn import functional as F

from detector import boxes
from detector.config import InputConfig
from detector.datasets.pictures.sizes import resized_size
from detector.model import postprocess, proposals, rpn
from detector.model.blocks import FrozenBatchNorm2d
from detector.structures import Size, Target
from detector.training import joint, targets
from detector.training.targets import RoITargets, RoITargetSettings

Mistake = Callable[[Reference, pytest.MonkeyPatch], Reference]


# Settings


def with_settings(section: str, **changes: Any) -> Mistake:
    """The same weights in a network of other settings."""

    def make(reference: Reference, _patch: pytest.MonkeyPatch) -> Reference:
        config = changed(reference.config, section, **changes)
        return Reference(rebuilt(reference.model, config), config, reference.order)

    return make


def stride_in_the_other_convolution(reference: Reference, patch: pytest.MonkeyPatch) -> Reference:
    stride_in_1x1 = not reference.config.model.backbone.stride_in_1x1
    return with_settings("backbone", stride_in_1x1=stride_in_1x1)(reference, patch)


# Weights


def channels_in_the_other_order(reference: Reference, _patch: pytest.MonkeyPatch) -> Reference:
    conv1 = reference.model.backbone.conv1
    conv1.weight.data = conv1.weight.data.flip(1)
    return reference


def background_first(reference: Reference, _patch: pytest.MonkeyPatch) -> Reference:
    """As if their first row were the background's already."""
    layer = reference.model.roi_head.cls_score
    layer.weight.data, layer.bias.data = layer.weight.data.roll(-1, 0), layer.bias.data.roll(-1, 0)
    return reference


def ratio_major_anchors(reference: Reference, _patch: pytest.MonkeyPatch) -> Reference:
    anchors, rpn_config = reference.model.anchors, reference.config.model.rpn
    sizes, ratios = len(rpn_config.anchor_sizes), len(rpn_config.anchor_ratios)
    anchors.base = anchors.base.view(sizes, ratios, 4).transpose(0, 1).reshape(-1, 4)
    return reference


# Code


def norm_epsilon(value: float) -> Mistake:
    def make(reference: Reference, _patch: pytest.MonkeyPatch) -> Reference:
        for module in reference.model.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.eps = value
        return reference

    return make


def resized_by(resize: Callable[[np.ndarray, Size], np.ndarray]) -> Mistake:
    def make(reference: Reference, patch: pytest.MonkeyPatch) -> Reference:
        def prepare(image: np.ndarray, config: InputConfig) -> np.ndarray:
            size = (image.shape[0], image.shape[1])
            return resize(image, resized_size(size, config.min_size_test, config.max_size_test, "pil"))

        patch.setattr(detectron2_inference, "prepare_for_test", prepare)
        return reference

    return make


def interpolated(antialias: bool, as_bytes: bool) -> Callable[[np.ndarray, Size], np.ndarray]:
    def resize(image: np.ndarray, size: Size) -> np.ndarray:
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).float()[None]
        pixels = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False, antialias=antialias)
        resized = pixels[0].permute(1, 2, 0).numpy()
        return resized.round().clip(0, 255).astype(np.uint8) if as_bytes else resized

    return resize


def resized_by_opencv(image: np.ndarray, size: Size) -> np.ndarray:
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def coordinate_major_deltas(reference: Reference, patch: pytest.MonkeyPatch) -> Reference:
    flatten_head = rpn.flatten_head

    def flatten(objectness: Tensor, deltas: Tensor) -> rpn.AnchorScores:
        n, channels, height, width = deltas.shape
        deltas = deltas.view(n, 4, channels // 4, height, width).transpose(1, 2).reshape(deltas.shape)
        return flatten_head(objectness, deltas)

    patch.setattr(rpn, "flatten_head", flatten)
    return reference


def clipped_a_pixel_short(reference: Reference, patch: pytest.MonkeyPatch) -> Reference:
    clip = boxes.clip
    patch.setattr(boxes, "clip", lambda b, size: clip(b, (size[0] - 1, size[1] - 1)))
    return reference


def final_nms_over_all_classes(reference: Reference, patch: pytest.MonkeyPatch) -> Reference:
    patch.setattr(postprocess, "batched_nms", lambda b, scores, _labels, t: torchvision.ops.nms(b, scores, t))
    return reference


def boxes_a_pixel_larger_in_nms(reference: Reference, patch: pytest.MonkeyPatch) -> Reference:
    one_more = torch.tensor([0.0, 0.0, 1.0, 1.0])
    nms, batched_nms = torchvision.ops.nms, torchvision.ops.batched_nms
    patch.setattr(proposals, "nms", lambda b, scores, t: nms(b + one_more, scores, t))
    patch.setattr(postprocess, "batched_nms", lambda b, scores, labels, t: batched_nms(b + one_more, scores, labels, t))
    return reference


# (mistake, a quantity that must be among those reported)
MISTAKES: dict[str, tuple[Mistake, str]] = {
    "bn eps 0": (norm_epsilon(0.0), "res4"),
    "bn eps 1e-3": (norm_epsilon(1e-3), "res4"),
    "RGB order": (channels_in_the_other_order, "res4"),
    "resize: bilinear, no antialias": (resized_by(interpolated(antialias=False, as_bytes=True)), "image_u8_resized"),
    "resize: bilinear antialias, float": (resized_by(interpolated(antialias=True, as_bytes=False)), "res4"),
    "resize: cv2 INTER_LINEAR": (resized_by(resized_by_opencv), "image_u8_resized"),
    "pad to multiple of 32": (with_settings("input", pad_to_multiple=32), "det005_boxes_net"),
    "stride in 3x3": (stride_in_the_other_convolution, "res4"),
    "anchor offset 0.5": (with_settings("rpn", anchor_offset=0.5), "proposals"),
    "anchors ratio-major": (ratio_major_anchors, "proposals"),
    "delta channels coordinate-major": (coordinate_major_deltas, "proposals"),
    "RoIAlign aligned=False": (with_settings("roi", aligned=False), "det005_boxes_net"),
    "RoIAlign sampling_ratio 2": (with_settings("roi", sampling_ratio=2), "det005_boxes_net"),
    "roi box weights 1,1,1,1": (with_settings("roi", delta_weights=(1.0, 1.0, 1.0, 1.0)), "det005_boxes_net"),
    "background index 0": (background_first, "det005_boxes_net"),
    "pre-NMS topk not applied": (with_settings("rpn", pre_nms_top_n_test=10**6), "proposals"),
    "NMS with +1 box sizes": (boxes_a_pixel_larger_in_nms, "NMS"),
    "class-agnostic final NMS": (final_nms_over_all_classes, "det005_boxes_net"),
    "clip to w-1,h-1": (clipped_a_pixel_short, "proposals"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_mistake_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mistake, quantity = MISTAKES[name]
    reported: list[str] = []
    for found in comparisons(mistake, monkeypatch):
        reported += found.mismatches
        if any(quantity in mismatch.partition(":")[0] for mismatch in reported):
            return
    pytest.fail(f"not noticed in {quantity}; reported: {reported}")


def comparisons(mistake: Mistake, patch: pytest.MonkeyPatch) -> Iterator[Comparison]:
    """One comparison after another, of networks with the mistake, each followed by one of the small functions."""
    units = read_units(EMBEDDED)
    for case in inference_cases():
        if case.has_stages:
            with patch.context() as own:
                reference = mistake(fresh_reference(checkpoints(case.folder)[-1]), own)
                yield compare_end_to_end(reference, case)
                yield compare_units(units)


# Training


def without_best_anchors(patch: pytest.MonkeyPatch) -> None:
    match = targets.match
    patch.setattr(targets, "match", lambda iou, positive, negative, _keep_best: match(iou, positive, negative, False))


def ground_truth_not_among_the_proposals(patch: pytest.MonkeyPatch) -> None:
    roi_targets = joint.roi_targets

    def without(proposals_: Tensor, target: Target, settings: RoITargetSettings, seed: int) -> RoITargets:
        found = roi_targets(proposals_, target, settings, seed)
        kept = ~(found.boxes[:, None] == target.boxes[None]).all(dim=2).any(dim=1)
        return RoITargets(found.boxes[kept], found.labels[kept], found.deltas[kept[: len(found.deltas)]])

    patch.setattr(joint, "roi_targets", without)


def rpn_losses_divided_by_what_was_sampled(patch: pytest.MonkeyPatch) -> None:
    loss = joint.objectness_loss
    patch.setattr(joint, "objectness_loss", lambda logits, kinds, _normalizer: loss(logits, kinds, float(len(kinds))))


def smooth_l1_with_a_parabola(patch: pytest.MonkeyPatch) -> None:
    loss = joint.box_loss
    patch.setattr(joint, "box_loss", lambda deltas, wanted, _beta, normalizer: loss(deltas, wanted, 1 / 9, normalizer))


TRAINING_MISTAKES: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "low-quality matches left out": (without_best_anchors, "rpn_labels_before_sampling"),
    "ground truth not among the proposals": (ground_truth_not_among_the_proposals, "rois"),
    "normaliser counts what was sampled": (rpn_losses_divided_by_what_was_sampled, "loss_rpn_cls"),
    "smooth L1": (smooth_l1_with_a_parabola, "loss_box_reg"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINING_MISTAKES)
def test_the_mistake_in_training_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mistake, quantity = TRAINING_MISTAKES[name]
    mistake(monkeypatch)
    reported = [mismatch for case in training_cases() for mismatch in compare_training(case).mismatches]
    assert any(mismatch.startswith(quantity) for mismatch in reported), reported
