"""The feature pyramid on numbers that can be checked by hand, and what each kind of model is made of."""

import pytest
import torch
from torch import Tensor, nn

from detector.config import Config, ConfigError, config_from_dict, load_config
from detector.model.blocks import Bottleneck
from detector.model.build import build_model
from detector.model.faster_rcnn import FasterRCNN
from detector.model.fpn import FPN, add_doubled, subsampled
from detector.model.resnet import ResNetC5, ResNetShape
from detector.model.roi_head import FullyConnectedHead, RoILayers
from detector.structures import FeatureMap


def test_a_cell_of_the_coarser_map_stands_for_four_of_the_finer() -> None:
    coarser = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert add_doubled(torch.zeros(1, 1, 4, 4), coarser)[0, 0].tolist() == [
        [1, 1, 2, 2],
        [1, 1, 2, 2],
        [3, 3, 4, 4],
        [3, 3, 4, 4],
    ]
    # Without padding to 32 a map may be a cell short: it takes what is there.
    assert add_doubled(torch.ones(1, 1, 3, 3), coarser)[0, 0].tolist() == [[2, 2, 3], [2, 2, 3], [4, 4, 5]]
    alone = torch.rand(1, 1, 2, 2)
    assert add_doubled(alone, None) is alone


def test_the_coarsest_level_is_every_second_cell_of_the_one_before() -> None:
    level = subsampled(FeatureMap(torch.arange(15.0).view(1, 1, 3, 5), 32))
    assert level.stride == 64
    assert level.values[0, 0].tolist() == [[0, 2, 4], [10, 12, 14]]


class Body(nn.Module):
    """Four maps of ones, twos, threes and fours."""

    def forward(self, pixels: Tensor) -> tuple[FeatureMap, ...]:
        side = pixels.shape[2]
        return tuple(
            FeatureMap(torch.full((1, 1, side // s, side // s), float(n)), s) for n, s in enumerate((4, 8, 16, 32), 1)
        )


def test_levels_sum_up_from_the_coarsest_before_their_own_convolution() -> None:
    pyramid = FPN(Body(), [1, 1, 1, 1], channels=1)  # type: ignore[arg-type]
    for level in (*pyramid.lateral, *pyramid.output):
        weight = level.conv.weight
        nn.init.zeros_(weight)
        # The identity on the sides, ten times the middle cell in the end.
        weight.data[..., weight.shape[2] // 2, weight.shape[3] // 2] = 1.0 if weight.shape[2] == 1 else 10.0
    levels = pyramid(torch.zeros(1, 3, 64, 64))
    assert [level.stride for level in levels] == [4, 8, 16, 32, 64]
    assert [level.values.unique().tolist() for level in levels] == [[100.0], [90.0], [70.0], [40.0], [40.0]]
    assert [tuple(level.values.shape[2:]) for level in levels] == [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]


@pytest.mark.parametrize(
    ("kind", "changes", "tensors", "parameters"),
    [
        ("fpn", {"depth": 50}, 295, 41_699_936),
        ("fpn", {"depth": 101}, 550, 60_639_840),
        ("fpn", {"depth": 101, "groups": 32, "width_per_group": 8}, 550, 104_784_480),
        ("dc5", {"depth": 50}, 279, 165_581_468),
        ("dc5", {"depth": 101}, 534, 184_521_372),
    ],
)
def test_sizes_of_the_published_models(kind: str, changes: dict[str, int], tensors: int, parameters: int) -> None:
    """Those of detectron2's, with 80 classes."""
    with torch.device("meta"):
        model = build_model(config(kind, changes))
    assert len(model.state_dict()) == tensors
    assert sum(p.numel() for p in model.parameters()) == parameters


def config(kind: str, backbone: dict[str, int]) -> Config:
    return config_from_dict({"model": {"kind": kind, "num_classes": 80, "backbone": backbone}})


@pytest.mark.parametrize(("kind", "frozen"), [("fpn", 222_400), ("dc5", 222_400)])
def test_conv1_and_conv2_x_are_frozen_and_the_pyramid_is_not(kind: str, frozen: int) -> None:
    with torch.device("meta"):
        model = build_model(config(kind, {"depth": 50}))
    assert sum(p.numel() for p in model.parameters() if not p.requires_grad) == frozen


def test_a_dilated_stage_keeps_its_stride_and_sees_as_far() -> None:
    backbone = ResNetC5(ResNetShape(50, 4, 4), dilated=True)
    blocks = [block for block in backbone.conv5_x if isinstance(block, Bottleneck)]
    assert [(b.conv2.dilation, b.conv2.padding, b.conv2.stride) for b in blocks] == [((2, 2), (2, 2), (1, 1))] * 3
    assert [b.conv1.stride for b in blocks] == [(1, 1)] * 3
    (feature_map,) = backbone(torch.zeros(1, 3, 70, 100))
    assert (feature_map.stride, feature_map.values.shape) == (16, (1, 128, 5, 7))


def test_groups_divide_the_3x3_convolutions_of_a_resnext() -> None:
    stage = ResNetShape(101, groups=32, width_per_group=8).make_stage(3)
    block = stage[0]
    assert isinstance(block, Bottleneck)
    assert (block.conv2.groups, block.conv2.weight.shape) == (32, (512, 16, 3, 3))
    assert (block.conv1.out_channels, block.conv3.out_channels) == (512, 512)


def test_layers_of_the_head_see_a_map_channel_by_channel() -> None:
    layers = RoILayers(in_channels=2, size=2, fc_layers=1, fc_channels=8)
    (layer,) = layers.fcs
    assert isinstance(layer, nn.Linear)
    nn.init.eye_(layer.weight)
    maps = torch.arange(8.0).view(1, 2, 2, 2)
    assert layers(maps).tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]


def test_names_that_files_have() -> None:
    model = build_model(config_from_dict({"model": {"kind": "fpn", "num_classes": 2, "rpn": {"conv_layers": 2}}}))
    names = set(model.state_dict())
    assert {
        "backbone.body.conv1.weight",
        "backbone.body.conv5_x.2.norm3.bias",
        "backbone.lateral.3.conv.bias",
        "backbone.output.0.conv.weight",
        "rpn.conv.weight",
        "rpn.more_convs.0.weight",
        "roi_head.layers.fcs.1.weight",
        "roi_head.cls_score.weight",
    } <= names
    assert isinstance(model, FasterRCNN)
    assert isinstance(model.roi_head, FullyConnectedHead)


# Settings


def test_a_kind_brings_its_own_defaults_and_gives_way_to_what_is_set() -> None:
    pyramid = load_config(None, ["model.kind=fpn"])
    assert (pyramid.model.roi.pooled_size, pyramid.input.pad_to_multiple) == (7, 32)
    rpn = pyramid.model.rpn
    assert (rpn.pre_nms_top_n_train, rpn.pre_nms_top_n_test) == (2000, 1000)
    assert (rpn.post_nms_top_n_train, rpn.post_nms_top_n_test) == (1000, 1000)
    own = load_config(None, ["model.kind=fpn", "model.roi.pooled_size=14", "input.pad_to_multiple=64"])
    assert (own.model.roi.pooled_size, own.input.pad_to_multiple) == (14, 64)
    assert load_config(None, ["model.kind=dc5"]).model.roi.pooled_size == 7
    assert load_config(None, ["model.kind=c4"]) == load_config(None)
    assert (pyramid.model.network, load_config(None).model.network) == ("ResNet-101-FPN", "ResNet-101-C4")
    grouped = load_config(None, ["model.kind=fpn", "model.backbone.groups=32", "model.backbone.width_per_group=8"])
    assert grouped.model.network == "ResNeXt-101-32x8d-FPN"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.backbone.freeze_stages=5"], "a C4 backbone has 4 stages, choose 0 to 4"),
        (["model.kind=fpn", "model.rpn.anchor_sizes=[32, 64]"], "has 2 values: a pyramid's 5 levels share them out"),
        (["model.backbone.groups=3"], "width=64 is no multiple of groups=3; set width_per_group"),
        (["model.kind=retina"], "expected one of c4, fpn, dc5"),
    ],
)
def test_what_a_kind_cannot_have_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, words)
