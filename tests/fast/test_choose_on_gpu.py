"""What a GPU's kernels are chosen by, with clocks that say what the test wants."""

from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from device_cases import network
from torch import Tensor

from detector.fast import choose_on_gpu
from detector.fast.choose_on_gpu import AS_WRITTEN, ON_CPU, ON_GPU, PoolingWay, cudnn_fuses, pooling_way
from detector.fast.convolution import Execution, FusedConv
from detector.model.blocks import BasicBlock, Bottleneck
from detector.model.roi_head import RoIHead
from detector.model.roi_pooling import RoIPooling

CUDA = torch.device("cuda", 0)
ALIGN = RoIPooling("align", 14)


def block() -> Bottleneck:
    head = network("bottlenecks")[0].roi_head
    assert isinstance(head, RoIHead)
    first = head.conv5_x[0]
    assert isinstance(first, Bottleneck)
    return first


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose_on_gpu, "MAPS", 2)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    choose_on_gpu._fastest_pooling.cache_clear()
    choose_on_gpu.cudnn_fuses.cache_clear()


def test_a_cpu_and_other_devices_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose_on_gpu, "_fastest_pooling", Mock(side_effect=AssertionError))
    assert pooling_way(ALIGN, block(), torch.device("cpu"), torch.float32, False) == ON_CPU
    assert pooling_way(ALIGN, block(), torch.device("mps"), torch.float32, False) == AS_WRITTEN
    assert pooling_way(ALIGN, block(), CUDA, torch.float32, False, timed=False) == AS_WRITTEN
    assert pooling_way(ALIGN, block(), CUDA, torch.float64, False) == AS_WRITTEN
    basic = BasicBlock(16, 32, 2, "frozen_batch")
    for device in ("cpu", "cuda"):
        assert pooling_way(RoIPooling("pool", 14), block(), torch.device(device), torch.float32, False) == AS_WRITTEN
        assert pooling_way(ALIGN, basic, torch.device(device), torch.float32, False) == AS_WRITTEN


@pytest.mark.parametrize("way", ON_GPU, ids=str)
@pytest.mark.parametrize("gradient", [False, True])
def test_pooling_is_measured_once(monkeypatch: pytest.MonkeyPatch, way: PoolingWay, gradient: bool) -> None:
    measured = Mock(return_value=way)
    monkeypatch.setattr(choose_on_gpu, "pooling_fault", lambda *_given: None)
    monkeypatch.setattr(choose_on_gpu, "_pooling_call", Mock())
    monkeypatch.setattr(choose_on_gpu, "fastest", measured)
    for _ in range(2):
        assert pooling_way(ALIGN, block(), CUDA, torch.bfloat16, gradient) == way
    assert measured.call_count == 1
    assert list(measured.call_args.args[0]) == list(ON_GPU)


def test_a_kernel_with_a_fault_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(choose_on_gpu, "pooling_fault", lambda *_given: "no compiler")
    assert pooling_way(ALIGN, block(), CUDA, torch.bfloat16, False) == AS_WRITTEN
    assert "RoIAlign runs through torchvision (no compiler)" in caplog.text


@pytest.mark.parametrize("gradient", [False, True])
def test_what_is_measured_computes_the_same(monkeypatch: pytest.MonkeyPatch, gradient: bool) -> None:
    """torchvision's pooling before the convolutions, and (with another kernel's name) after them."""
    monkeypatch.setattr(choose_on_gpu, "MAP", (4, 5))
    monkeypatch.setattr(choose_on_gpu, "REGIONS", 3)
    opening, cpu = choose_on_gpu.Opening.of(block()), torch.device("cpu")
    pooling = RoIPooling("align", 4)
    outs = [
        choose_on_gpu._pooling_call(PoolingWay(False, hoisted), pooling, opening, cpu, torch.float32, gradient)()
        for hoisted in (False, True)
    ]
    if gradient:
        assert outs == [None, None]
        return
    for before, after in zip(*outs, strict=True):  # type: ignore[call-overload]
        torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-5)


def relu_of_convolution(x: Tensor, weight: Tensor, bias: Tensor, *rest: int) -> Tensor:
    stride, padding, dilation, groups = rest
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups).relu()


def relu_of_sum(x: Tensor, weight: Tensor, other: Tensor, alpha: float, bias: Tensor, *rest: int) -> Tensor:
    stride, padding, dilation, groups = rest
    return (F.conv2d(x, weight, bias, stride, padding, dilation, groups) + alpha * other).relu()


def test_cudnns_kernels_get_what_the_convolution_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cudnn_convolution_relu", Mock(side_effect=relu_of_convolution))
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", Mock(side_effect=relu_of_sum))
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(6, 4, 3, 3, generator=generator), torch.randn(6, generator=generator)
    x, residual = torch.randn(2, 4, 9, 8, generator=generator), torch.randn(2, 6, 5, 4, generator=generator)
    with_cudnn, without = (
        FusedConv(weight, bias, 2, 1, True, Execution(torch.float32, False, cudnn=cudnn)) for cudnn in (True, False)
    )
    assert torch.equal(with_cudnn(x), without(x))
    assert torch.equal(with_cudnn(x, residual.clone()), without(x, residual.clone()))
    assert torch.cudnn_convolution_relu.call_count == torch.cudnn_convolution_add_relu.call_count == 1  # type: ignore[attr-defined]
    for plain in (
        FusedConv(weight, None, 2, 1, True, with_cudnn_execution()),
        FusedConv(weight, bias, 2, 1, False, with_cudnn_execution()),
    ):
        plain(x)
    assert with_cudnn(x[:0]).shape == (0, 6, 5, 4)
    assert torch.cudnn_convolution_relu.call_count == 1  # type: ignore[attr-defined]


def with_cudnn_execution() -> Execution:
    return Execution(torch.float32, onednn=False, cudnn=True)


@pytest.mark.parametrize(("faster", "error", "expected"), [(True, 0.0, True), (False, 0.0, False), (True, 0.1, False)])
def test_cudnn_is_used_where_it_is_right_and_faster(
    monkeypatch: pytest.MonkeyPatch, faster: bool, error: float, expected: bool
) -> None:
    cpu = Mock(type="cuda")
    monkeypatch.setattr(Tensor, "to", lambda self, *_given, **_more: self)
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", lambda *given: relu_of_sum(*given) + error)
    monkeypatch.setattr(choose_on_gpu, "fastest", lambda _calls, _device: faster)
    assert cudnn_fuses(cpu, torch.float32) == expected


def test_without_cudnn_it_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    assert not cudnn_fuses(torch.device("cpu"), torch.float32)
    with pytest.MonkeyPatch.context() as patch, caplog.at_level("INFO"):
        patch.setattr(Tensor, "to", lambda self, *_given, **_more: self)
        patch.setattr(torch, "cudnn_convolution_add_relu", Mock(side_effect=RuntimeError("no cuDNN here\nmore")))
        assert not cudnn_fuses(CUDA, torch.float32)
    assert "not used (no cuDNN here)" in caplog.text
