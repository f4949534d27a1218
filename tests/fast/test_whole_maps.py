import copy
import pickle
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from kernels import count_products, need
from torch import Tensor, nn

from detector.fast import whole_maps as small_maps
from detector.fast.backbone import fuse_block
from detector.fast.convolution import Execution, FusedConv, RoIMaps, onednn_fault
from detector.fast.folding import fuse_conv
from detector.fast.whole_maps import SmallMapConv
from detector.fast.winograd import WinogradConv, winograd_fault
from detector.model.resnet import Bottleneck

EXECUTION = Execution(torch.float32, onednn=True, winograd=True)
BLOCK = 6


@pytest.fixture(autouse=True)
def works() -> None:
    need(onednn_fault(torch.float32), winograd_fault(torch.float32))


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """The points' products, counted."""
    return count_products(monkeypatch)


def channels_last(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(size).to(dtype, memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("size", "stride"), [(1, 1), (2, 1), (5, 1), (7, 1), (14, 1), (2, 2), (5, 2), (7, 2), (13, 2), (14, 2)]
)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_it_is_the_convolution(
    size: int, stride: int, relu: bool, with_bias: bool, products: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_maps, "MIN_SAVED", 0.0)
    weight, bias = torch.randn(40, 24, 3, 3) / 15, torch.randn(40) if with_bias else None
    conv = SmallMapConv(weight, bias, stride, relu, EXECUTION, RoIMaps(BLOCK, size))
    for count in (BLOCK, 2 * BLOCK, BLOCK - 1, 2 * BLOCK + 1):
        x = channels_last(count, 24, size, size)
        exact = F.conv2d(x.double(), weight.double(), None if bias is None else bias.double(), stride, padding=1)
        residual = channels_last(*exact.shape)
        for other in (None, residual):
            expected = exact if other is None else exact + other
            products.reset_mock()
            found = conv(x, None if other is None else other.clone(memory_format=torch.preserve_format))
            assert found.is_contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(found.double(), expected.relu() if relu else expected, rtol=0, atol=2e-5)
            products.assert_called()


@pytest.mark.parametrize(("stride", "direct"), [(1, {0, 1, 2}), (2, {0, 1, 2, 3, 4, 7, 8, 9})])
def test_blocks_too_empty_are_convolved_directly(stride: int, direct: set[int], products: Mock) -> None:
    conv = SmallMapConv(torch.randn(8, 8, 3, 3), None, stride, True, EXECUTION, RoIMaps(BLOCK, 7 * stride))
    for count in range(2 * BLOCK + 1):
        products.reset_mock()
        x = channels_last(count, 8, 7 * stride, 7 * stride)
        found = conv(x)
        if count in direct:
            products.assert_not_called()
            assert torch.equal(found, conv.direct(x))
        else:
            products.assert_called()


def test_in_bfloat16_it_is_near() -> None:
    need(onednn_fault(torch.bfloat16))
    execution = Execution(torch.bfloat16, onednn=True, winograd=True)
    weight = torch.randn(64, 64, 3, 3) / 24
    for stride in (1, 2):
        x = channels_last(BLOCK, 64, 7 * stride, 7 * stride, dtype=torch.bfloat16)
        found = SmallMapConv(weight, None, stride, False, execution, RoIMaps(BLOCK, 7 * stride))(x)
        exact = F.conv2d(x.double(), weight.bfloat16().double(), stride=stride, padding=1)
        assert found.dtype == torch.bfloat16
        assert float((found.double() - exact).norm() / exact.norm()) < 0.02


@pytest.mark.parametrize("stride", [1, 2])
def test_it_can_be_copied_and_pickled(stride: int) -> None:
    maps = RoIMaps(BLOCK, 7 * stride)
    conv = SmallMapConv(torch.randn(24, 16, 3, 3), torch.randn(24), stride, True, EXECUTION, maps)
    x = channels_last(BLOCK, 16, maps.size, maps.size)
    for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert torch.equal(other(x), conv(x))


@pytest.mark.parametrize(
    ("conv", "size", "uses"),
    [
        (nn.Conv2d(128, 128, 3, padding=1, bias=False), 7, SmallMapConv),
        (nn.Conv2d(128, 256, 3, stride=2, padding=1), 14, SmallMapConv),
        (nn.Conv2d(128, 128, 3, padding=1), 15, WinogradConv),
        (nn.Conv2d(128, 128, 3, stride=2, padding=1), 29, FusedConv),
        (nn.Conv2d(64, 128, 3, padding=1), 7, FusedConv),
        (nn.Conv2d(128, 128, 3, stride=2, padding=1), 1, FusedConv),
        (nn.Conv2d(128, 128, 1), 7, FusedConv),
    ],
    ids=str,
)
def test_where_it_is_used(conv: nn.Conv2d, size: int, uses: type[nn.Module]) -> None:
    maps = RoIMaps(BLOCK, size)
    assert type(fuse_conv(conv, None, True, EXECUTION, maps=maps)) is uses
    assert type(fuse_conv(conv, None, True, Execution(torch.float32, onednn=True), maps=maps)) is FusedConv
    assert not isinstance(fuse_conv(conv, None, True, EXECUTION), SmallMapConv)


@pytest.mark.parametrize("stride_in_1x1", [False, True])
def test_sizes_follow_the_strides_of_a_block(stride_in_1x1: bool) -> None:
    block = Bottleneck(512, 128, 2, "frozen_batch", stride_in_1x1)
    fused = fuse_block(block, EXECUTION, RoIMaps(BLOCK, 14))
    x = channels_last(BLOCK, 512, 14, 14)
    torch.testing.assert_close(fused(x.clone()), block(x), rtol=1e-4, atol=1e-4)
    second = fused.first[1]
    assert isinstance(second, SmallMapConv)
    assert (second.middle is None) == stride_in_1x1
    assert isinstance(fused.last, FusedConv)
    assert fused.last.packed is not None
    assert fused.last.packed.size == (1, 128, BLOCK * 49, 1)


def test_weights_are_packed_for_one_size_and_serve_all() -> None:
    weight, bias = torch.randn(24, 16, 1, 1), torch.randn(24)
    conv = FusedConv(weight, bias, 1, 0, True, EXECUTION, RoIMaps(BLOCK, 7))
    assert conv.packed is not None
    for count, size in ((BLOCK, 7), (BLOCK - 1, 7), (1, 3), (2 * BLOCK, 7)):
        x, residual = channels_last(count, 16, size, size), channels_last(count, 24, size, size)
        exact = F.conv2d(x.double(), weight.double(), bias.double())
        torch.testing.assert_close(conv(x).double(), exact.relu(), rtol=0, atol=2e-5)
        expected = (exact + residual).relu()
        torch.testing.assert_close(conv(x, residual).double(), expected, rtol=0, atol=2e-5)
    x = channels_last(BLOCK, 16, 7, 7)
    for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert torch.equal(other(x), conv(x))
