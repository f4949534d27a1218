"""A row of torchvision's RPN layers stays with the anchor that it was trained for, whatever the order of a cell is."""

from typing import Literal

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator

from detector.config import BackboneConfig, Config, FPNConfig, ModelConfig, RPNConfig
from detector.model.build import build_model
from detector.weights.lineages.torchvision_anchors import size_major, with_our_order, with_their_order

SIZES = {"fpn": ((16, 24), (32, 48), (64, 96), (128, 192), (256, 384)), "c4": ((20, 50, 110),)}
RATIOS = (0.4, 1.3, 2.1)
Kind = Literal["fpn", "c4"]


def config_of(kind: Kind, order: Literal["size", "ratio"]) -> Config:
    sizes = tuple(float(size) for level in SIZES[kind] for size in level)
    rpn = RPNConfig(anchor_sizes=sizes, anchor_ratios=RATIOS, anchor_rounding=True, anchor_order=order)
    backbone = BackboneConfig(depth=18, stem_channels=4, width=4)
    return Config(model=ModelConfig(kind=kind, num_classes=2, backbone=backbone, fpn=FPNConfig(channels=4), rpn=rpn))


def numbered_rows(anchors: int) -> dict[str, Tensor]:
    """Layers whose rows are the numbers of their anchors."""
    number = torch.arange(float(anchors))
    return {
        "rpn.head.cls_logits.weight": number.view(-1, 1, 1, 1),
        "rpn.head.cls_logits.bias": number,
        "rpn.head.bbox_pred.weight": number.repeat_interleave(4).view(-1, 1, 1, 1),
        "rpn.head.bbox_pred.bias": number.repeat_interleave(4),
    }


@pytest.mark.parametrize("order", ["size", "ratio"])
@pytest.mark.parametrize("kind", ["fpn", "c4"])
def test_rows_are_those_of_the_same_anchors(kind: Kind, order: Literal["size", "ratio"]) -> None:
    config = config_of(kind, order)
    theirs = AnchorGenerator(SIZES[kind], (RATIOS,) * len(SIZES[kind])).cell_anchors
    ours = build_model(config).anchors
    per_cell = len(SIZES[kind][0]) * len(RATIOS)
    tensors = numbered_rows(per_cell)
    moved = with_our_order(tensors, config)
    rows = moved["rpn.head.cls_logits.bias"].long()
    for level, base in zip(theirs, torch.split(ours.base, per_cell), strict=True):
        assert torch.equal(level[rows], base)
    assert torch.equal(moved["rpn.head.cls_logits.weight"].flatten(), rows.float())
    assert torch.equal(moved["rpn.head.bbox_pred.bias"], rows.float().repeat_interleave(4))
    assert torch.equal(moved["rpn.head.bbox_pred.weight"].flatten(), rows.float().repeat_interleave(4))
    back = with_their_order(moved, config)
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def test_layers_of_another_number_of_anchors_are_left_for_others_to_refuse() -> None:
    tensors = numbered_rows(5)
    assert all(torch.equal(t, tensors[name]) for name, t in with_our_order(tensors, config_of("c4", "size")).items())


def test_from_ratio_major_to_size_major() -> None:
    assert size_major(torch.tensor([0, 1, 10, 11, 20, 21]), sizes=2, ratios=3).tolist() == [0, 10, 20, 1, 11, 21]
    assert size_major(torch.arange(8), sizes=2, ratios=2).tolist() == [0, 1, 4, 5, 2, 3, 6, 7]
