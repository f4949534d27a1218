import pytest
import torch
from torch import nn

from detector.model.resnet import ResNetShape
from detector.model.roi_head import RoIHead


def test_classes_and_deltas_by_hand() -> None:
    head = RoIHead(nn.Identity(), channels=2, num_classes=2)
    with torch.no_grad():
        head.cls_score.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [1, 1]]))
        head.cls_score.bias.copy_(torch.tensor([0.0, 0, 100]))
        head.bbox_pred.weight.zero_()
        head.bbox_pred.bias.copy_(torch.arange(8.0))
    pooled = torch.tensor([[1.0, 3.0], [10.0, 30.0]])[None, :, :, None]  # means 2 and 20
    logits, deltas = head(pooled)
    assert logits.tolist() == [[2.0, 20.0, 122.0]]
    assert deltas.tolist() == [[[0.0, 1, 2, 3], [4, 5, 6, 7]]], "four neighbouring rows for each class"


def test_shapes_with_conv5_x_and_full_precision_outputs() -> None:
    shape = ResNetShape(50, stem_channels=4, width=4)
    head = RoIHead(shape.make_stage(5), shape.stage_channels(5), num_classes=3)
    logits, deltas = head(torch.randn(5, shape.stage_channels(4), 14, 14))
    assert (logits.shape, deltas.shape) == ((5, 4), (5, 3, 4))
    logits, deltas = head.bfloat16()(torch.randn(5, shape.stage_channels(4), 14, 14).bfloat16())
    assert logits.dtype == deltas.dtype == torch.float32


@pytest.mark.parametrize("depth", [18, 50])
def test_no_rois_give_no_rows(depth: int) -> None:
    shape = ResNetShape(depth, stem_channels=4, width=4)
    head = RoIHead(shape.make_stage(5), shape.stage_channels(5), num_classes=3)
    logits, deltas = head(torch.zeros(0, shape.stage_channels(4), 14, 14))
    assert (logits.shape, deltas.shape) == ((0, 4), (0, 3, 4))


def test_layers_start_as_the_paper_says() -> None:
    torch.manual_seed(0)
    head = RoIHead(nn.Identity(), channels=2048, num_classes=20)
    assert head.cls_score.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert head.bbox_pred.weight.std().item() == pytest.approx(0.001, rel=0.02)
    assert head.cls_score.bias.abs().max() == head.bbox_pred.bias.abs().max() == 0
