import pytest
import torch
from kernels import need
from torch import nn

from detector.fast import convolution
from detector.fast.convolution import Execution, onednn_fault
from detector.fast.folding import fold_norm, fuse_conv, linear_part, remaining_part
from detector.model.resnet import FrozenBatchNorm2d

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
@pytest.mark.parametrize("onednn", [False, True])
def test_units_are_convolution_norm_residual_and_relu(norm: nn.Module, onednn: bool) -> None:
    if onednn:
        need(onednn_fault(torch.float32))
    for tensor in [*norm.parameters(), *norm.buffers()]:
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 1.5)
    conv = nn.Conv2d(4, 8, 3, stride=2, padding=1, bias=False)
    x = torch.randn(2, 4, 7, 6).contiguous(memory_format=torch.channels_last)
    residual = torch.randn(2, 8, 4, 3).contiguous(memory_format=torch.channels_last)
    unit = fuse_conv(conv, norm, True, Execution(torch.float32, onednn))
    expected = (norm(conv(x)) + residual).relu()
    torch.testing.assert_close(unit(x), norm(conv(x)).relu(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(unit(x, residual.clone()), expected, rtol=1e-4, atol=1e-5)
    unit = fuse_conv(conv, norm, False, Execution(torch.float32, onednn))
    torch.testing.assert_close(unit(x), norm(conv(x)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", [FrozenBatchNorm2d(8), nn.GroupNorm(2, 8)])
def test_two_parts_are_the_whole(norm: nn.Module) -> None:
    for tensor in [*norm.parameters(), *norm.buffers()]:
        tensor.data.uniform_(0.5, 1.5)
    conv = nn.Conv2d(4, 8, 1, bias=False)
    x = torch.randn(2, 4, 7, 6)
    linear, rest = linear_part(conv, norm, PLAIN), remaining_part(conv, norm, True, PLAIN)
    torch.testing.assert_close(rest(linear(x)), norm(conv(x)).relu())
    torch.testing.assert_close(linear(2 * x), 2 * linear(x))


def test_why_onednn_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "float64" in str(onednn_fault(torch.float64))
    monkeypatch.setattr(convolution.FusedConv, "_onednn", lambda *_: torch.zeros(2, 32, 3, 3))
    assert "wrong" in str(onednn_fault(torch.float32))

    def missing(*_: object) -> None:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_convolution_pointwise'\nmore")

    monkeypatch.setattr(convolution.FusedConv, "_onednn", missing)
    assert str(onednn_fault(torch.float32)).endswith("'_convolution_pointwise'")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert "without oneDNN" in str(onednn_fault(torch.float32))
