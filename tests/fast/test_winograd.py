import copy
import pickle
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from kernels import assert_near, count_products, executions
from photographs import photographs

from detector.config.loading import load_config
from detector.fast.choose import TILE_BLOCK, TILE_MIN_SAVED
from detector.fast.convolution import Execution
from detector.fast.fuse import fuse
from detector.fast.winograd import WinogradConv
from detector.model.build import build_model
from detector.weights.backbone_weights import resolve_backbone
from detector.weights.initialise import load_backbone

every_execution = pytest.mark.parametrize("execution", executions(), ids=str)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """The points' products, counted."""
    return count_products(monkeypatch)


@pytest.mark.parametrize("size", [(1, 32, 32), (1, 50, 76), (2, 31, 32), (40, 7, 7), (64, 7, 7)])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
@every_execution
def test_it_is_the_convolution(
    size: tuple[int, int, int], relu: bool, with_bias: bool, execution: Execution, products: Mock
) -> None:
    n, h, w = size
    x = torch.randn(n, 24, h, w).to(execution.dtype, memory_format=torch.channels_last)
    residual = torch.randn(n, 40, h, w).to(execution.dtype, memory_format=torch.channels_last)
    weight = torch.randn(40, 24, 3, 3).to(execution.dtype) / 15
    bias = torch.randn(40) if with_bias else None
    conv = WinogradConv(weight, bias, relu, execution, TILE_BLOCK, TILE_MIN_SAVED)
    exact = F.conv2d(x.double(), weight.double(), None if bias is None else bias.double(), padding=1)
    for other in (None, residual):
        expected = exact if other is None else exact + other.double()
        out = conv(x, None if other is None else other.clone(memory_format=torch.preserve_format))
        assert out.is_contiguous(memory_format=torch.channels_last)
        assert_near(out, expected.relu() if relu else expected, execution)
    assert products.call_count == 2 * -(-(n * -(-h // 4) * -(-w // 4)) // TILE_BLOCK)


@every_execution
def test_small_maps_are_convolved_directly(execution: Execution, products: Mock) -> None:
    conv = WinogradConv(torch.randn(8, 8, 3, 3), torch.randn(8), True, execution, TILE_BLOCK, TILE_MIN_SAVED)
    x = torch.randn(1, 8, 12, 12).to(execution.dtype, memory_format=torch.channels_last)
    assert torch.equal(conv(x), conv.direct(x))
    products.assert_not_called()


@every_execution
def test_it_can_be_copied_and_pickled(execution: Execution) -> None:
    conv = WinogradConv(torch.randn(24, 16, 3, 3), torch.randn(24), True, execution, TILE_BLOCK, TILE_MIN_SAVED)
    x = torch.randn(1, 16, 32, 32).to(execution.dtype, memory_format=torch.channels_last)
    for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv)), conv.to("cpu")):
        assert torch.equal(other(x), conv(x))


@pytest.mark.slow
def test_in_bfloat16_imagenet_features_are_as_near_as_by_autocast(shared: Path, project_root: Path) -> None:
    weights = shared / "data/weights/resnet50_c4_msra_fp16.pth"
    overrides = [f"model.backbone.weights={weights}", "model.num_classes=3"]
    config = load_config(project_root / "configs/r50c4_bccd.yaml", overrides)
    model = build_model(config).eval()
    load_backbone(model, resolve_backbone(config).state, str(weights))
    fast = fuse(model, torch.bfloat16)
    for i in range(3):
        (images,) = photographs(shared, 1, 608, first=i)
        with torch.no_grad():
            exact = model.features(images)[0].values
            with torch.autocast("cpu", torch.bfloat16):
                autocast = model.features(images)[0].values
            found = fast.features(images)[0].values
        assert (found.float() - exact).norm() < 1.2 * (autocast.float() - exact).norm()
