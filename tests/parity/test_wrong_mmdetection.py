"""The comparison with mmdetection notices every mistake that its references were made to show.

Each mistake of the references' README ("How far wrong semantics land") that they can show is made on purpose, one at a
time, and a few that their description of mmdetection warns of.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mmdetection_inference
import mmdetection_units
import numpy as np
import pytest
import torch
from mmdetection_cases import EMBEDDED, Case, Reference, fresh_reference, recorded
from mmdetection_inference import compare_end_to_end
from mmdetection_units import compare_units, read_units
from other_settings import changed, rebuilt
from torch.nn import functional as F

from detector import boxes
from detector.config import InputConfig
from detector.datasets.pictures.pil_resize import resize_like_pil
from detector.datasets.pictures.sizes import resized_size
from detector.model import proposals
from detector.structures import Size

Mistake = Callable[[Reference, pytest.MonkeyPatch], Reference]
CASE = Case((recorded() or EMBEDDED) / "v2_r50_fpn_w4_c7", "coffee")


def with_settings(section: str, **changes: Any) -> Mistake:
    """The same weights in a network of other settings."""

    def make(reference: Reference, _patch: pytest.MonkeyPatch) -> Reference:
        config = changed(reference.config, section, **changes)
        return Reference(rebuilt(reference.model, config), config, reference.is_rgb)

    return make


def resized_by(resize: Callable[[np.ndarray, Size], np.ndarray]) -> Mistake:
    def make(reference: Reference, patch: pytest.MonkeyPatch) -> Reference:
        def prepare(image: np.ndarray, config: InputConfig) -> np.ndarray:
            size = (image.shape[0], image.shape[1])
            return resize(image, resized_size(size, config.min_size_test, config.max_size_test, "cv2"))

        patch.setattr(mmdetection_inference, "prepare_for_test", prepare)
        return reference

    return make


def interpolated(as_bytes: bool) -> Callable[[np.ndarray, Size], np.ndarray]:
    def resize(image: np.ndarray, size: Size) -> np.ndarray:
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).float()[None]
        resized = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False)[0].permute(1, 2, 0).numpy()
        return resized.round().clip(0, 255).astype(np.uint8) if as_bytes else resized

    return resize


def channels_in_the_other_order(reference: Reference, _patch: pytest.MonkeyPatch) -> Reference:
    conv1 = reference.model.backbone.body.conv1
    conv1.weight.data = conv1.weight.data.flip(1)
    return reference


def background_first(reference: Reference, _patch: pytest.MonkeyPatch) -> Reference:
    """As if their first row were the background's already."""
    layer = reference.model.roi_head.cls_score
    layer.weight.data, layer.bias.data = layer.weight.data.roll(-1, 0), layer.bias.data.roll(-1, 0)
    return reference


def clipped_to_the_padding(reference: Reference, patch: pytest.MonkeyPatch) -> Reference:
    clip = boxes.clip
    patch.setattr(boxes, "clip", lambda b, size: clip(b, (size[0] + 31, size[1] + 31)))
    return reference


# Mistakes that only the small functions show


def unit(function: str, **wrong: Any) -> Mistake:
    """A small function that is given another argument than mmdetection's."""

    def make(reference: Reference, patch: pytest.MonkeyPatch) -> Reference:
        right = getattr(mmdetection_units, function)
        patch.setattr(mmdetection_units, function, lambda *args, **kwargs: right(*args, **(kwargs | wrong)))
        return reference

    return make


def levels_by_detectron2s_rule(reference: Reference, patch: pytest.MonkeyPatch) -> Reference:
    right = mmdetection_units.roi_levels
    patch.setattr(mmdetection_units, "roi_levels", lambda rois, count, _rule: right(rois, count, "detectron2"))
    return reference


def nms_pre_not_applied(reference: Reference, patch: pytest.MonkeyPatch) -> Reference:
    top = proposals._top
    patch.setattr(proposals, "_top", lambda logits, settings: top(logits, replace(settings, pre_nms_top_n=10**6)))
    return reference


# (mistake, the beginning of a quantity that must be among those reported)
MISTAKES: dict[str, tuple[Mistake, str]] = {
    "resize: Pillow bilinear": (resized_by(resize_like_pil), "preprocessed"),
    "resize: torch bilinear, float, not rounded": (resized_by(interpolated(as_bytes=False)), "preprocessed"),
    "resize: torch bilinear, rounded": (resized_by(interpolated(as_bytes=True)), "preprocessed"),
    "no padding to 32": (with_settings("input", pad_to_multiple=1), "preprocessed"),
    "mean in the other order": (with_settings("input", pixel_mean=(103.53, 116.28, 123.675)), "preprocessed"),
    "channels swapped": (channels_in_the_other_order, "proposals"),
    "bn eps 0": (with_settings("backbone", norm_eps=0.0), "proposals"),
    "RoIAlign aligned=False": (with_settings("roi", aligned=False), "det005_out"),
    "RoIAlign sampling_ratio 2": (with_settings("roi", sampling_ratio=2), "det005_out"),
    "stride in the other conv": (with_settings("backbone", stride_in_1x1=True), "proposals"),
    "anchor center_offset 0.5": (with_settings("rpn", anchor_offset=0.5), "proposals"),
    "anchors rounded": (with_settings("rpn", anchor_rounding=True), "proposals"),
    "nms_pre too small": (with_settings("rpn", pre_nms_top_n_test=20), "proposals"),
    "roi box weights 1,1,1,1": (with_settings("roi", delta_weights=(1.0, 1.0, 1.0, 1.0)), "det005_out"),
    "background first": (background_first, "det005_out"),
    "clipped to the padded picture": (clipped_to_the_padding, "proposals"),
    "anchor order size-outermost": (unit("AnchorGenerator", ratio_first=False), "c4_base_anchors"),
    "dw, dh limited above only": (unit("decode_deltas", limit_shrinking=False), "coder_unit_decoded_noclip: sides"),
    "FPN level by detectron2's rule": (levels_by_detectron2s_rule, "level_of"),
    "ranking by logits": (unit("ProposalSettings", rank_by="logit"), "rpn_"),
    "nms_pre not applied": (nms_pre_not_applied, "rpn_boxes"),
}


# Those that the small functions show take no time, and of those that a whole picture shows these are run always.
QUICK = {
    name for name, (_, quantity) in MISTAKES.items() if quantity not in ("preprocessed", "proposals", "det005_out")
}
QUICK |= {"no padding to 32", "RoIAlign aligned=False", "stride in the other conv", "resize: torch bilinear, rounded"}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MISTAKES]
)
def test_the_mistake_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mistake, quantity = MISTAKES[name]
    if quantity == "preprocessed" and recorded() is None:
        pytest.skip("the input of the network does not travel with the project; set DETECTOR_SHARED to run this test")
    reference = mistake(fresh_reference(CASE.folder), monkeypatch)
    reported = compare_units(read_units()).mismatches
    if not any(mismatch.startswith(quantity) for mismatch in reported):
        reported += compare_end_to_end(reference, CASE).mismatches
    assert any(mismatch.startswith(quantity) for mismatch in reported), reported


def test_without_a_mistake_nothing_is_reported() -> None:
    assert compare_units(read_units()).mismatches == []
    assert compare_end_to_end(fresh_reference(CASE.folder), CASE).mismatches == []
