import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from kernels import assert_near, chosen, executions
from torch import Tensor, nn

from detector.fast.convolution import Execution, FusedConv, PackedConv, RoIMaps
from detector.fast.folding import fold_norm, fuse_conv, linear_part, remaining_part
from detector.model.blocks import FrozenBatchNorm2d

PLAIN = Execution(torch.float32, onednn=False)


def test_folding_by_hand() -> None:
    conv = nn.Conv2d(1, 1, 1, bias=False)
    norm = FrozenBatchNorm2d(1)
    nn.init.constant_(conv.weight, 3.0)
    for name, value in {"weight": 2.0, "bias": 5.0, "running_mean": 1.0, "running_var": 4.0 - 1e-5}.items():
        getattr(norm, name).fill_(value)
    weight, bias = fold_norm(conv, norm)  # (3x − 1) / 2 · 2 + 5
    assert bias is not None
    assert weight.dtype == bias.dtype == torch.float64
    assert weight.item() == pytest.approx(3.0)
    assert bias.item() == pytest.approx(4.0)


def test_a_bias_goes_through_the_norm() -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1)
    norm = nn.BatchNorm2d(4).eval()
    assert norm.running_mean is not None
    norm.running_mean.normal_()
    x = torch.randn(2, 3, 5, 6)
    torch.testing.assert_close(fuse_conv(conv, norm, False, PLAIN)(x), norm(conv(x)))


def test_without_a_norm_there_is_nothing_to_fold() -> None:
    conv = nn.Conv2d(3, 4, 3, bias=False)
    weight, bias = fold_norm(conv, None)
    assert bias is None
    assert torch.equal(weight, conv.weight.double())


@pytest.mark.parametrize("norm", [FrozenBatchNorm2d(8), nn.BatchNorm2d(8).eval(), nn.GroupNorm(2, 8)])
@pytest.mark.parametrize("execution", [PLAIN, chosen(torch.float32)], ids=str)
def test_units_are_convolution_norm_residual_and_relu(norm: nn.Module, execution: Execution) -> None:
    for tensor in [*norm.parameters(), *norm.buffers()]:
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 1.5)
    conv = nn.Conv2d(4, 8, 3, stride=2, padding=1, bias=False)
    x = torch.randn(2, 4, 7, 6).contiguous(memory_format=torch.channels_last)
    residual = torch.randn(2, 8, 4, 3).contiguous(memory_format=torch.channels_last)
    unit = fuse_conv(conv, norm, True, execution)
    expected = (norm(conv(x)) + residual).relu()
    torch.testing.assert_close(unit(x), norm(conv(x)).relu(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(unit(x, residual.clone()), expected, rtol=1e-4, atol=1e-5)
    unit = fuse_conv(conv, norm, False, execution)
    torch.testing.assert_close(unit(x), norm(conv(x)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", [FrozenBatchNorm2d(8), nn.GroupNorm(2, 8)])
def test_two_parts_are_the_whole(norm: nn.Module) -> None:
    for tensor in [*norm.parameters(), *norm.buffers()]:
        tensor.data.uniform_(0.5, 1.5)
    conv = nn.Conv2d(4, 8, 1, bias=False)
    x = torch.randn(2, 4, 7, 6)
    linear, bias = linear_part(conv, norm, PLAIN)
    rest = remaining_part(bias, norm, True, PLAIN)
    torch.testing.assert_close(rest(linear(x)), norm(conv(x)).relu())
    torch.testing.assert_close(linear(2 * x), 2 * linear(x))


def test_a_norm_alone_computes_in_the_precision_of_its_parameters() -> None:
    """Maps that a kernel pooled in bfloat16 come to it on a GPU, where no norm takes operands of two types."""
    norm = nn.GroupNorm(2, 8)
    nn.init.normal_(norm.weight)
    execution = Execution(torch.bfloat16, onednn=False, winograd=False)
    rest = remaining_part(None, norm, False, execution)
    x = channels_last(2, 8, 7, 6, dtype=torch.bfloat16)
    assert rest(x).dtype == torch.float32
    assert torch.equal(rest(x), rest(x.float()))


def channels_last(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(size).to(dtype, memory_format=torch.channels_last)


@pytest.mark.parametrize("execution", executions(), ids=str)
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (7, 2, 3)])
@pytest.mark.parametrize("relu", [False, True])
def test_a_fused_convolution_is_the_convolution(
    execution: Execution, kernel: int, stride: int, padding: int, relu: bool
) -> None:
    weight, bias = torch.randn(24, 16, kernel, kernel).to(execution.dtype) / (4 * kernel), torch.randn(24)
    conv = FusedConv(weight, bias, stride, padding, relu, execution)
    for count, height, width in ((1, 9, 7), (3, 8, 12)):
        x = channels_last(count, 16, height, width, dtype=execution.dtype)
        exact = F.conv2d(x.double(), weight.double(), bias.double(), stride, padding)
        residual = channels_last(*exact.shape, dtype=execution.dtype)
        for other in (None, residual):
            expected = exact if other is None else exact + other.double()
            out = conv(x, None if other is None else other.clone(memory_format=torch.preserve_format))
            assert out.is_contiguous(memory_format=torch.channels_last)
            assert_near(out, expected.relu() if relu else expected, execution)


MAPS = RoIMaps(6, 7)
PACKED = [e for e in executions() if e.onednn]


@pytest.mark.parametrize("execution", PACKED, ids=str)
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "as_product"),
    [(1, 1, 0, False), (1, 1, 0, True), (1, 2, 0, False), (3, 2, 1, False)],
)
def test_weights_are_packed_for_one_size_and_serve_all(
    execution: Execution, kernel: int, stride: int, padding: int, as_product: bool
) -> None:
    weight, bias = torch.randn(24, 16, kernel, kernel).to(execution.dtype) / (4 * kernel), torch.randn(24)
    conv = PackedConv(weight, bias, stride, padding, True, execution, MAPS, as_product)
    same = [conv, copy.deepcopy(conv), pickle.loads(pickle.dumps(conv)), conv.to("cpu")]
    for count, size in ((6, 7), (5, 7), (1, 3), (12, 7), (6, 8)):
        x = channels_last(count, 16, size, size, dtype=execution.dtype)
        exact = F.conv2d(x.double(), weight.double(), bias.double(), stride, padding)
        residual = channels_last(*exact.shape, dtype=execution.dtype)
        out = conv(x)
        assert out.is_contiguous(memory_format=torch.channels_last)
        assert_near(out, exact.relu(), execution)
        joined = conv(x, residual.clone(memory_format=torch.preserve_format))
        assert_near(joined, (exact + residual.double()).relu(), execution)
        assert all(torch.equal(other(x), out) for other in same)


@pytest.mark.parametrize("execution", PACKED, ids=str)
def test_a_packed_convolution_keeps_its_weight_once(execution: Execution) -> None:
    conv = PackedConv(torch.randn(24, 16, 1, 1), torch.randn(24), 1, 0, True, execution, MAPS)
    assert [name for name, _ in conv.named_buffers()] == ["bias"]
    assert not list(conv.parameters())
