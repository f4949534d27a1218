"""torchvision's FasterRCNN assembled as C4: every way of naming its ResNet, the order of anchors, background rows."""

import re
from collections.abc import Iterator

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from detector.errors import UserError
from detector.model.build import build_model
from detector.weights.lineages.torchvision_detector import (
    from_torchvision_detector,
    is_torchvision_detector,
    num_classes_of,
    resnet_names,
    torchvision_detector_config,
)

SIZES, RATIOS = (32.0, 64.0, 128.0, 256.0, 512.0), (0.5, 1.0, 2.0)


class Backbone(nn.Module):
    out_channels = 256

    def __init__(self, resnet: nn.Module) -> None:
        super().__init__()
        for name in ("conv1", "bn1", "layer1", "layer2", "layer3"):
            self.add_module(name, getattr(resnet, name))


class Head(nn.Module):
    def __init__(self, resnet: nn.Module) -> None:
        super().__init__()
        self.layer4 = resnet.layer4


@pytest.fixture(scope="module")
def reference() -> FasterRCNN:
    torch.manual_seed(0)
    resnet = torchvision.models.resnet18()
    return FasterRCNN(
        Backbone(resnet),
        rpn_anchor_generator=AnchorGenerator((SIZES,), (RATIOS,)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 14, 2),
        box_head=Head(resnet),
        box_predictor=FastRCNNPredictor(512, 7),
    )


def renamed(tensors: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The same tensors as people's modules name them."""
    numbers = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6"}

    def change(pattern: str, to: object, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {re.sub(pattern, to, name): tensor for name, tensor in state.items()}  # type: ignore[call-overload]

    numbered = change(r"^backbone\.(\w+)", lambda m: f"backbone.{numbers[m[1]]}", tensors)
    yield change(r"^backbone\.", "backbone.body.", tensors)
    yield change(r"^backbone\.", "backbone.0.", tensors)
    yield numbered
    yield change(r"^backbone\.", "backbone.body.", numbered)
    yield change(r"box_head\.layer4\.", "box_head.", tensors)
    yield change(r"box_head\.layer4\.", "box_head.0.", numbered)
    yield change(r"rpn\.head\.conv\.0\.0\.", "rpn.head.conv.", tensors)
    yield {name: tensor for name, tensor in tensors.items() if "num_batches" not in name}


def test_whatever_its_parts_are_called(reference: FasterRCNN) -> None:
    tensors = reference.state_dict()
    assert is_torchvision_detector(tensors)
    config = torchvision_detector_config(18, num_classes_of(tensors))
    state = from_torchvision_detector(tensors, config, "x")
    build_model(config).load_state_dict(state)
    assert torch.equal(state["backbone.conv4_x.1.conv2.weight"], tensors["backbone.layer3.1.conv2.weight"])
    assert torch.equal(state["roi_head.conv5_x.0.norm1.bias"], tensors["roi_heads.box_head.layer4.0.bn1.bias"])
    for other in renamed(tensors):
        again = from_torchvision_detector(other, config, "x")
        assert all(torch.equal(again[name], state[name]) for name in state), list(other)[:3]


def test_background_rows_of_boxes_are_dropped_and_scores_stay(reference: FasterRCNN) -> None:
    tensors = reference.state_dict()
    state = from_torchvision_detector(tensors, torchvision_detector_config(18, 6), "x")
    assert torch.equal(state["roi_head.bbox_pred.weight"], tensors["roi_heads.box_predictor.bbox_pred.weight"][4:])
    assert torch.equal(state["roi_head.cls_score.bias"], tensors["roi_heads.box_predictor.cls_score.bias"])


def test_config_is_that_of_the_reference(reference: FasterRCNN) -> None:
    config = torchvision_detector_config(18, 6)
    rpn, roi, transform = reference.rpn, reference.roi_heads, reference.transform
    assert config.model.rpn.pre_nms_top_n_train == rpn._pre_nms_top_n["training"]
    assert config.model.rpn.pre_nms_top_n_test == rpn._pre_nms_top_n["testing"]
    assert config.model.rpn.post_nms_top_n_train == rpn._post_nms_top_n["training"]
    assert config.model.rpn.post_nms_top_n_test == rpn._post_nms_top_n["testing"]
    assert config.model.rpn.nms_threshold == rpn.nms_thresh
    assert config.model.rpn.min_size == rpn.min_size
    assert config.model.rpn.positive_iou == rpn.proposal_matcher.high_threshold
    assert config.model.rpn.negative_iou == rpn.proposal_matcher.low_threshold
    assert config.model.rpn.batch_size_per_image == rpn.fg_bg_sampler.batch_size_per_image
    assert config.model.rpn.positive_fraction == rpn.fg_bg_sampler.positive_fraction
    assert config.model.rpn.delta_weights == rpn.box_coder.weights
    assert config.model.roi.positive_iou == roi.proposal_matcher.high_threshold
    assert config.model.roi.batch_size_per_image == roi.fg_bg_sampler.batch_size_per_image
    assert config.model.roi.positive_fraction == roi.fg_bg_sampler.positive_fraction
    assert config.model.roi.delta_weights == roi.box_coder.weights
    assert config.model.roi.sampling_ratio == roi.box_roi_pool.sampling_ratio
    assert (config.model.roi.pooled_size,) * 2 == roi.box_roi_pool.output_size
    assert config.model.detection.score_threshold == roi.score_thresh
    assert config.model.detection.nms_threshold == roi.nms_thresh
    assert config.model.detection.max_per_image == roi.detections_per_img
    assert config.input.min_size_test == transform.min_size[0] == config.input.min_size_train[0]
    assert config.input.max_size_test == transform.max_size == config.input.max_size_train
    assert config.input.pad_to_multiple == transform.size_divisible
    assert config.input.pixel_mean == pytest.approx([255 * m for m in transform.image_mean])
    assert config.input.pixel_std == pytest.approx([255 * s for s in transform.image_std])


def test_constants_inside_of_its_code() -> None:
    config = torchvision_detector_config(18, 6)
    assert config.model.rpn.smooth_l1_beta == config.model.roi.smooth_l1_beta == 1 / 9
    assert config.model.detection.min_size == 1e-2
    assert config.model.rpn.anchor_rounding
    assert not config.model.roi.aligned
    assert not config.model.backbone.stride_in_1x1
    assert config.input.resize == "torchvision"


def test_all_that_does_not_fit_is_listed(reference: FasterRCNN) -> None:
    tensors = reference.state_dict() | {"roi_heads.mask_head.weight": torch.ones(1)}
    del tensors["backbone.bn1.running_var"]
    config = torchvision_detector_config(18, 6, anchor_sizes=SIZES[:2])
    with pytest.raises(UserError) as caught:
        from_torchvision_detector(tensors, config, "x.pth")
    text = str(caught.value)
    assert "roi_heads.mask_head.weight" in text
    assert "backbone.norm1.running_var" in text
    assert "rpn.head.cls_logits.weight is [15, 256, 1, 1] and should be [6, 256, 1, 1]" in text


def test_names_that_are_no_resnets_are_not_guessed() -> None:
    names = ["backbone.fpn.inner_blocks.0.0.weight", "backbone.2.weight", "roi_heads.box_head.fc6.weight", "rpn.x"]
    assert resnet_names(dict.fromkeys(names, torch.ones(1))) == {}
