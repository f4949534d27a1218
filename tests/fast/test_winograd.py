import copy
import logging
import pickle
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from kernels import count_products, need
from photographs import photographs
from tiny_models import tiny_config, tiny_model
from torch import nn

from detector.config.loading import load_config
from detector.fast import whole_maps as small_maps
from detector.fast import winograd
from detector.fast.convolution import Execution, FusedConv, onednn_fault
from detector.fast.folding import fuse_conv
from detector.fast.fuse import fuse
from detector.fast.onednn import GroupedProducts
from detector.fast.whole_maps import SmallMapConv
from detector.fast.winograd import WinogradConv, winograd_fault
from detector.model.build import build_model
from detector.weights.backbone_weights import resolve_backbone
from detector.weights.initialise import load_backbone

EXECUTION = Execution(torch.float32, onednn=True, winograd=True)


@pytest.fixture(autouse=True)
def works() -> None:
    need(onednn_fault(torch.float32), winograd_fault(torch.float32))


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """The points' products, counted."""
    return count_products(monkeypatch)


@pytest.mark.parametrize("size", [(1, 32, 32), (1, 50, 76), (2, 31, 32), (40, 7, 7), (64, 7, 7)])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_it_is_the_convolution(size: tuple[int, int, int], relu: bool, with_bias: bool, products: Mock) -> None:
    n, h, w = size
    x = torch.randn(n, 24, h, w).contiguous(memory_format=torch.channels_last)
    residual = torch.randn(n, 40, h, w).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(40, 24, 3, 3) / 15, torch.randn(40) if with_bias else None
    conv = WinogradConv(weight, bias, relu, EXECUTION)
    exact = F.conv2d(x.double(), weight.double(), None if bias is None else bias.double(), padding=1)
    for other in (None, residual):
        expected = exact if other is None else exact + other
        found = conv(x, None if other is None else other.clone(memory_format=torch.preserve_format))
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found.double(), expected.relu() if relu else expected, rtol=0, atol=2e-5)
    assert products.call_count == 2 * -(-(n * -(-h // 4) * -(-w // 4)) // winograd.BLOCK)


def test_small_maps_are_convolved_directly(products: Mock) -> None:
    conv = WinogradConv(torch.randn(8, 8, 3, 3), torch.randn(8), True, EXECUTION)
    x = torch.randn(1, 8, 12, 12).contiguous(memory_format=torch.channels_last)
    assert torch.equal(conv(x), conv.direct(x))
    products.assert_not_called()


@pytest.mark.parametrize(
    ("conv", "uses"),
    [
        (nn.Conv2d(128, 128, 3, padding=1, bias=False), True),
        (nn.Conv2d(128, 256, 3, padding=1), True),
        (nn.Conv2d(64, 128, 3, padding=1), False),
        (nn.Conv2d(128, 128, 3, stride=2, padding=1), False),
        (nn.Conv2d(128, 128, 1), False),
    ],
    ids=str,
)
def test_where_it_is_used(conv: nn.Conv2d, uses: bool) -> None:
    assert isinstance(fuse_conv(conv, None, True, EXECUTION), WinogradConv if uses else FusedConv)
    assert isinstance(fuse_conv(conv, None, True, Execution(torch.float32, onednn=True)), FusedConv)


def test_why_it_cannot_be_used(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(GroupedProducts, "__call__", lambda _, x: torch.zeros_like(x))
        assert "wrong" in str(winograd_fault(torch.float32))
    with monkeypatch.context() as broken:
        broken.setattr(small_maps, "MIDDLE", 2 * small_maps.MIDDLE)
        assert "wrong" in str(winograd_fault(torch.float32))
    monkeypatch.setattr(winograd, "point_products", Mock(side_effect=AttributeError("no such packing\nand more")))
    assert winograd_fault(torch.float32) == "no such packing"
    with caplog.at_level(logging.WARNING):
        fused = fuse(tiny_model(tiny_config()))
    assert "no such packing" in caplog.text
    assert not fused.execution.winograd


def test_not_without_onednn() -> None:
    model = tiny_model(tiny_config())
    assert fuse(model).execution.winograd
    assert not fuse(model, torch.float64).execution.winograd
    assert not fuse(model, compiled=True).execution.winograd


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_which_parts_of_the_network_use_it(dtype: torch.dtype) -> None:
    need(onednn_fault(dtype), winograd_fault(dtype))
    model = tiny_model(tiny_config(backbone={"depth": 50, "stem_channels": 32, "width": 32}))
    fused = fuse(model, dtype)
    uses = {name: type(part) for name, part in fused.named_modules() if isinstance(part, WinogradConv | SmallMapConv)}
    assert uses == {
        **{f"backbone.stages.2.{i}.first.1": WinogradConv for i in range(6)},  # conv4_x has 128 channels here
        "rpn.conv": WinogradConv,
        "roi_head.stage.layers.conv2": SmallMapConv,
        **{f"roi_head.stage.layers.blocks.{i}.first.1": SmallMapConv for i in (0, 1)},
    }
    assert fused.rpn.conv(torch.zeros(1, 512, 8, 8, dtype=dtype)).dtype == dtype


@pytest.mark.slow
def test_in_bfloat16_imagenet_features_are_as_near_as_by_autocast(shared: Path, project_root: Path) -> None:
    need(onednn_fault(torch.bfloat16), winograd_fault(torch.bfloat16))
    weights = shared / "data/weights/resnet50_c4_msra_fp16.pth"
    overrides = [f"model.backbone.weights={weights}", "model.num_classes=3"]
    config = load_config(project_root / "configs/r50c4_bccd.yaml", overrides)
    model = build_model(config).eval()
    load_backbone(model, resolve_backbone(config).state, str(weights))
    fast = fuse(model, torch.bfloat16)
    for i in range(3):
        (images,) = photographs(shared, 1, 608, first=i)
        with torch.no_grad():
            exact = model.backbone(model.normalize(images))
            with torch.autocast("cpu", torch.bfloat16):
                autocast = model.backbone(model.normalize(images))
            found = fast.features(images)
        assert (found.float() - exact).norm() < 1.2 * (autocast.float() - exact).norm()


def test_it_can_be_copied_and_pickled() -> None:
    conv = WinogradConv(torch.randn(24, 16, 3, 3), torch.randn(24), True, EXECUTION)
    x = torch.randn(1, 16, 32, 32).contiguous(memory_format=torch.channels_last)
    for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert torch.equal(other(x), conv(x))
