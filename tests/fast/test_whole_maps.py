import copy
import pickle
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from kernels import assert_near, chosen, count_products, executions
from torch import Tensor

from detector.fast.backbone import fuse_block
from detector.fast.choose import WHOLE_MIN_SAVED
from detector.fast.convolution import Execution, PackedConv, RoIMaps
from detector.fast.whole_maps import WholeMapConv
from detector.model.blocks import Bottleneck

BLOCK = 6
every_execution = pytest.mark.parametrize("execution", executions(), ids=str)


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
@every_execution
def test_it_is_the_convolution(
    size: int, stride: int, relu: bool, with_bias: bool, execution: Execution, products: Mock
) -> None:
    weight = torch.randn(40, 24, 3, 3).to(execution.dtype) / 15
    bias = torch.randn(40) if with_bias else None
    conv = WholeMapConv(weight, bias, stride, relu, execution, RoIMaps(BLOCK, size), min_saved=0)
    for count in (BLOCK, 2 * BLOCK, BLOCK - 1, 2 * BLOCK + 1):
        x = channels_last(count, 24, size, size, dtype=execution.dtype)
        exact = F.conv2d(x.double(), weight.double(), None if bias is None else bias.double(), stride, padding=1)
        residual = channels_last(*exact.shape, dtype=execution.dtype)
        for other in (None, residual):
            expected = exact if other is None else exact + other.double()
            products.reset_mock()
            out = conv(x, None if other is None else other.clone(memory_format=torch.preserve_format))
            assert out.is_contiguous(memory_format=torch.channels_last)
            assert_near(out, expected.relu() if relu else expected, execution)
            products.assert_called()


@pytest.mark.parametrize(("stride", "direct"), [(1, {0, 1, 2}), (2, {0, 1, 2, 3, 4, 7, 8, 9})])
@every_execution
def test_blocks_too_empty_are_convolved_directly(
    stride: int, direct: set[int], execution: Execution, products: Mock
) -> None:
    maps = RoIMaps(BLOCK, 7 * stride)
    conv = WholeMapConv(torch.randn(8, 8, 3, 3), None, stride, True, execution, maps, WHOLE_MIN_SAVED)
    for count in range(2 * BLOCK + 1):
        products.reset_mock()
        x = channels_last(count, 8, maps.size, maps.size, dtype=execution.dtype)
        out = conv(x)
        if count in direct:
            products.assert_not_called()
            assert torch.equal(out, conv.direct(x))
        else:
            products.assert_called()


@pytest.mark.parametrize("stride", [1, 2])
@every_execution
def test_it_can_be_copied_and_pickled(stride: int, execution: Execution) -> None:
    maps = RoIMaps(BLOCK, 7 * stride)
    weight, bias = torch.randn(24, 16, 3, 3), torch.randn(24)
    conv = WholeMapConv(weight, bias, stride, True, execution, maps, WHOLE_MIN_SAVED)
    x = channels_last(BLOCK, 16, maps.size, maps.size, dtype=execution.dtype)
    for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv)), conv.to("cpu")):
        assert torch.equal(other(x), conv(x))


@pytest.mark.parametrize("stride_in_1x1", [False, True])
def test_sizes_follow_the_strides_of_a_block(stride_in_1x1: bool) -> None:
    execution = chosen(torch.float32)
    block = Bottleneck(512, 128, 2, "frozen_batch", stride_in_1x1)
    fused = fuse_block(block, execution, RoIMaps(BLOCK, 14))
    x = channels_last(BLOCK, 512, 14, 14)
    torch.testing.assert_close(fused(x.clone()), block(x), rtol=1e-4, atol=1e-4)
    second = fused.first[1]
    assert isinstance(second, WholeMapConv)
    assert (second.middle is None) == stride_in_1x1
    if execution.onednn:
        assert isinstance(fused.last, PackedConv)
        assert fused.last.packed.size == (1, 128, BLOCK * 49, 1)
