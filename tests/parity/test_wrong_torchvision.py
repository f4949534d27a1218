"""The comparison with torchvision's Faster R-CNN over a pyramid notices each of its rules that is broken on purpose.

On a small ResNet in torchvision's own frame, computed once.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torchvision_fpn
from comparison import Comparison, Rows
from tiny_models import random_batch, with_model
from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.misc import FrozenBatchNorm2d

from detector.config import Config
from detector.datasets.loading.batch import make_batch
from detector.datasets.pictures.transforms import prepare_for_test
from detector.model import anchors
from detector.model.build import build_model
from detector.model.postprocess import to_original_frame
from detector.structures import FeatureMap
from detector.weights.lineages.torchvision_pyramid import from_torchvision_pyramid, torchvision_pyramid_config

MIN_SIZE, MAX_SIZE, PROPOSALS = 150, 200, 200
ANCHORS = (16, 32, 48, 64, 80)
SIZES = [(97, 131), (301, 123)]


@dataclass(frozen=True)
class Case:
    """A model of theirs, its settings as ours, two pictures [H, W, 3], and what it detects in them."""

    tensors: dict[str, Tensor]
    config: Config
    pictures: list[Any]
    detections: list[dict[str, Tensor]]


def narrow(num_classes: int, **settings: Any) -> FasterRCNN:
    """ResNet-18 with a narrow box head, and anchors that fit in small pictures."""
    return FasterRCNN(
        resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=FrozenBatchNorm2d),
        rpn_anchor_generator=AnchorGenerator(tuple((size,) for size in ANCHORS), ((0.5, 1.0, 2.0),) * 5),
        box_head=TwoMLPHead(256 * 7 * 7, 32),
        box_predictor=FastRCNNPredictor(32, num_classes),
        **settings,
    )


@pytest.fixture(scope="module")
def case() -> Case:
    sizes = {"min_size": MIN_SIZE, "max_size": MAX_SIZE, "rpn_post_nms_top_n_test": PROPOSALS}
    theirs = torchvision_fpn.build(narrow, 5, seed=3, **sizes)
    with torch.no_grad():
        theirs.rpn.head.cls_logits.bias.zero_()  # else all proposals would come from anchors of one shape
    tensors = theirs.state_dict()
    config = torchvision_pyramid_config(tensors, "live")
    config = with_model(config, rpn=replace(config.model.rpn, post_nms_top_n_test=PROPOSALS, anchor_sizes=ANCHORS))
    config = replace(config, input=replace(config.input, min_size_test=MIN_SIZE, max_size_test=MAX_SIZE))
    batch = random_batch(SIZES, seed=1)
    pictures = [batch.pixels[i, :, :h, :w].permute(1, 2, 0).numpy() for i, (h, w) in enumerate(SIZES)]
    with torch.inference_mode():
        expected = theirs([torch.from_numpy(picture).permute(2, 0, 1) / 255 for picture in pictures])
    return Case(tensors, config, pictures, expected)


def mismatches(case: Case, config: Config, state: dict[str, Tensor] | None = None) -> list[str]:
    """What differs when the network has these settings."""
    model = build_model(config).eval()
    model.load_state_dict(state or from_torchvision_pyramid(case.tensors, config, "live"))
    prepared = [prepare_for_test(picture, config.input) for picture in case.pictures]
    images = make_batch(prepared, SIZES, [0, 1], config.input.pad_to_multiple)
    found = Comparison()
    with torch.inference_mode():
        for selection, size, original, wanted in zip(
            model(images), images.sizes, images.original_sizes, case.detections, strict=True
        ):
            moved = to_original_frame(selection, size, original)
            ours = Rows(moved.boxes, moved.scores, moved.labels)
            theirs = Rows(wanted["boxes"], wanted["scores"], wanted["labels"])
            found.same_rows("detections", ours, theirs, 0.02, 1e-4)
    return found.mismatches


def test_as_it_is_nothing_differs(case: Case) -> None:
    assert mismatches(case, case.config) == []
    assert all(len(detections["scores"]) >= 20 for detections in case.detections)


@pytest.mark.parametrize("size", [(224, 224), (160, 96), (800, 1088)])
def test_anchors_of_every_level_are_theirs(size: tuple[int, int]) -> None:
    """Where the coarsest map does not divide the padded picture, the stride of its anchors is no power of two."""
    levels = [(size[0] // stride, size[1] // stride) for stride in (4, 8, 16, 32)]
    levels.append(((levels[-1][0] + 1) // 2, (levels[-1][1] + 1) // 2))
    maps = [torch.zeros(1, 1, *level) for level in levels]
    theirs = AnchorGenerator(tuple((a,) for a in ANCHORS), ((0.5, 1.0, 2.0),) * 5)
    (expected,) = theirs(ImageList(torch.zeros(1, 3, *size), [size]), maps)
    features = tuple(FeatureMap(values, stride) for values, stride in zip(maps, (4, 8, 16, 32, 64), strict=True))
    measured, nominal = (
        torch.cat([grid.all() for grid in anchors.AnchorGenerator(ANCHORS, (0.5, 1.0, 2.0), 0.0, True, 5, m)(features)])
        for m in (True, False)
    )
    assert torch.equal(measured, expected)
    divides = levels[-1][0] * 64 == size[0] and levels[-1][1] * 64 == size[1]
    assert torch.equal(nominal, expected) == divides


MISTAKES: dict[str, tuple[str, dict[str, Any]]] = {
    "resize: Pillow's": ("input", {"resize": "pil"}),
    "resize: OpenCV's": ("input", {"resize": "cv2"}),
    "no padding to 32": ("input", {"pad_to_multiple": 1}),
    "means alone": ("input", {"pixel_std": (1.0, 1.0, 1.0)}),
    "epsilon of the norms": ("backbone", {"norm_eps": 1e-3}),
    "anchors not rounded": ("rpn", {"anchor_rounding": False}),
    "anchors half a stride further": ("rpn", {"anchor_offset": 0.5}),
    "fewer anchors of each level": ("rpn", {"pre_nms_top_n_test": 10}),
    "RoIAlign aligned": ("roi", {"aligned": True}),
    "RoIAlign with as many samples as cells": ("roi", {"sampling_ratio": 0}),
    "box weights 1, 1, 1, 1": ("roi", {"delta_weights": (1.0, 1.0, 1.0, 1.0)}),
    "NMS at 0.6": ("detection", {"nms_threshold": 0.6}),
}


QUICK = ("resize: Pillow's", "RoIAlign aligned", "anchors not rounded")  # of every run; the others are slow together


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in MISTAKES])
def test_a_wrong_setting_is_noticed(name: str, case: Case) -> None:
    section, changes = MISTAKES[name]
    if section == "input":
        config = replace(case.config, input=replace(case.config.input, **changes))
    else:
        part = replace(getattr(case.config.model, section), **changes)
        config = with_model(case.config, **{section: part})
    assert mismatches(case, config)


TENSORS: dict[str, Callable[[dict[str, Tensor]], None]] = {
    "background last": lambda state: roll(state, "roi_head.cls_score."),
    "channels swapped": lambda state: state.update({CONV1: state[CONV1].flip(1)}),
}
CONV1 = "backbone.body.conv1.weight"


def roll(state: dict[str, Tensor], prefix: str) -> None:
    for kind in ("weight", "bias"):
        state[prefix + kind] = state[prefix + kind].roll(-1, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", TENSORS)
def test_wrongly_converted_tensors_are_noticed(name: str, case: Case) -> None:
    state = from_torchvision_pyramid(case.tensors, case.config, "live")
    TENSORS[name](state)
    assert mismatches(case, case.config, state)
