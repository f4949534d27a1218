import pytest
import torch
from torch import nn

from detector.model.resnet import ResNetShape
from detector.model.roi_head import AveragePool, RoIHead, sibling_layers
from detector.model.roi_pooling import RoIPooling
from detector.structures import FeatureMap, Features

WHOLE_MAP = [torch.tensor([[0.0, 0.0, 32.0, 16.0]])]


def make_head(conv5_x: nn.Module, channels: int, num_classes: int, size: int = 14) -> RoIHead:
    body = nn.Sequential(conv5_x, AveragePool())
    return RoIHead(RoIPooling("align", size), body, sibling_layers(channels, num_classes))


def one_map(values: torch.Tensor) -> Features:
    return (FeatureMap(values, 16),)


def test_classes_and_deltas_by_hand() -> None:
    head = make_head(nn.Identity(), channels=2, num_classes=2, size=2)
    with torch.no_grad():
        head.cls_score.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [1, 1]]))
        head.cls_score.bias.copy_(torch.tensor([0.0, 0, 100]))
        head.bbox_pred.weight.zero_()
        head.bbox_pred.bias.copy_(torch.arange(8.0))
    values = torch.tensor([[1.0, 3.0], [10.0, 30.0]])[None, :, None, :]  # means 2 and 20
    logits, deltas = head(one_map(values), WHOLE_MAP)
    assert logits.tolist() == [[2.0, 20.0, 122.0]]
    assert deltas.tolist() == [[[0.0, 1, 2, 3], [4, 5, 6, 7]]], "four neighbouring rows for each class"


def test_shapes_with_conv5_x_and_full_precision_outputs() -> None:
    shape = ResNetShape(50, stem_channels=4, width=4)
    head = make_head(shape.make_stage(5), shape.stage_channels(5), num_classes=3)
    features = torch.randn(2, shape.stage_channels(4), 6, 8)
    boxes = [WHOLE_MAP[0].repeat(3, 1), WHOLE_MAP[0].repeat(2, 1)]
    logits, deltas = head(one_map(features), boxes)
    assert (logits.shape, deltas.shape) == ((5, 4), (5, 3, 4))
    logits, deltas = head.bfloat16()(one_map(features.bfloat16()), boxes)
    assert logits.dtype == deltas.dtype == torch.float32


@pytest.mark.parametrize("depth", [18, 50])
def test_no_rois_give_no_rows(depth: int) -> None:
    shape = ResNetShape(depth, stem_channels=4, width=4)
    head = make_head(shape.make_stage(5), shape.stage_channels(5), num_classes=3)
    logits, deltas = head(one_map(torch.zeros(1, shape.stage_channels(4), 6, 8)), [torch.zeros(0, 4)])
    assert (logits.shape, deltas.shape) == ((0, 4), (0, 3, 4))


def test_layers_start_as_the_paper_says() -> None:
    torch.manual_seed(0)
    cls_score, bbox_pred = sibling_layers(channels=2048, num_classes=20)
    assert cls_score.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert bbox_pred.weight.std().item() == pytest.approx(0.001, rel=0.02)
    assert cls_score.bias.abs().max() == bbox_pred.bias.abs().max() == 0
