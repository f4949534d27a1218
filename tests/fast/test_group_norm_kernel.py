"""The kernel for group norm in Triton's interpreter, on the CPU, against PyTorch's in float64."""

from unittest.mock import Mock

import pytest
import torch
from interpreted import kernels
from torch import Tensor

from detector.fast import choose_on_gpu, group_norm, group_norm_fault
from detector.fast.backbone import fuse_block
from detector.fast.choose_on_gpu import normalizes_by_kernel
from detector.fast.convolution import Execution
from detector.fast.group_norm_fault import EPS, by_pytorch
from detector.fast.training_blocks import run_block
from detector.model.blocks import Bottleneck

kernel = kernels("detector.fast.group_norm_kernel")
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
FLOAT, BFLOAT = torch.float32, torch.bfloat16
CASES = [
    ((1, 64, 4, 4), 32, FLOAT, False),
    ((1, 64, 4, 4), 32, BFLOAT, True),
    *(((3, 12, 5, 7), 4, dtype, relu) for dtype in (FLOAT, BFLOAT) for relu in (False, True)),
    ((2, 10, 1, 3), 2, FLOAT, True),
    ((2, 3, 7, 7), 1, BFLOAT, False),
]


def problem(shape: tuple[int, ...], dtype: torch.dtype, mean: float = 1.0) -> tuple[list[Tensor], Tensor]:
    """Maps, weight and bias as leaves, and the gradient that comes in."""
    generator = torch.Generator().manual_seed(0)
    maps = (torch.randn(shape, generator=generator) + mean).to(dtype, memory_format=torch.channels_last)
    weight, bias = torch.randn(2, shape[1], generator=generator)
    incoming = torch.randn(shape, generator=generator).to(dtype)
    return [t.requires_grad_() for t in (maps, weight + 1, bias)], incoming


def in_float64(given: list[Tensor], incoming: Tensor, groups: int, relu: bool) -> list[Tensor]:
    """The result and the gradients."""
    exact = [t.detach().double().requires_grad_() for t in given]
    out = by_pytorch(*exact, groups, EPS, relu)
    return [out.detach(), *torch.autograd.grad(out, exact, incoming.double())]


def agree(found: Tensor, exact: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=tolerance * float(exact.abs().max()))


@pytest.mark.parametrize(("shape", "groups", "dtype", "relu"), CASES)
def test_the_values_and_gradients_of_pytorchs_in_float64(
    shape: tuple[int, ...], groups: int, dtype: torch.dtype, relu: bool
) -> None:
    given, incoming = problem(shape, dtype)
    out = kernel.group_norm(*given, groups, EPS, relu)
    gradients = torch.autograd.grad(out, given, incoming)
    assert [t.dtype for t in (out, *gradients)] == [dtype, dtype, torch.float32, torch.float32]
    assert out.is_contiguous(memory_format=torch.channels_last)
    exact = in_float64(given, incoming, groups, relu)
    for found, right in zip((out, *gradients), exact, strict=True):
        # The interpreter cuts off the rest where bfloat16 is rounded.
        agree(found, right, 2e-6 if found.dtype == torch.float32 else 2**-7)


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    """A variance of squares less the mean's square would be off by 1e-2 of these values."""
    given, incoming = problem((1, 8, 6, 6), torch.float32, mean=300.0)
    agree(kernel.group_norm(*given, 2, EPS), in_float64(given, incoming, 2, False)[0], 2e-5)


def test_the_result_may_be_changed_in_place_and_the_gradient_come_in_any_order() -> None:
    given, _ = problem((2, 8, 3, 3), torch.float32)
    out = kernel.group_norm(*given, 4, EPS).mul_(2.0).relu_()
    incoming = torch.randn(2, 8, 1, 1, generator=torch.Generator().manual_seed(1)).expand(2, 8, 3, 3)
    _, *exact = in_float64(given, incoming * 2, 4, True)
    for found, right in zip(torch.autograd.grad(out, given, incoming), exact, strict=True):
        agree(found, right, 2e-6)


def test_the_same_step_gives_the_same_bits_and_maps_do_not_touch_each_other() -> None:
    given, incoming = problem((3, 8, 3, 3), torch.float32)
    first, second = (torch.autograd.grad(kernel.group_norm(*given, 2, EPS), given, incoming) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    alone = kernel.group_norm(given[0][1:2], *given[1:], 2, EPS)
    assert torch.equal(alone, kernel.group_norm(*given, 2, EPS)[1:2])


def test_what_is_not_a_number_stays_so() -> None:
    given, _ = problem((2, 4, 2, 2), torch.float32)
    maps = given[0].detach().clone()
    maps[1, 0, 0, 0] = torch.nan
    out = kernel.group_norm(maps, *given[1:], 2, EPS, True)
    assert out[1, :2].isnan().all()
    assert not out[0].isnan().any()
    assert not out[1, 2:].isnan().any()


def test_no_maps() -> None:
    given, incoming = problem((0, 8, 3, 3), torch.float32)
    of_maps, *others = torch.autograd.grad(kernel.group_norm(*given, 4, EPS), given, incoming)
    assert of_maps.shape == (0, 8, 3, 3)
    assert all(torch.equal(t, torch.zeros(8)) for t in others)


def test_a_kernel_that_is_right_has_no_fault_and_one_that_is_not_has(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = (((2, 6, 3, 5), 2, False), ((1, 8, 4, 4), 1, True))
    monkeypatch.setattr(group_norm_fault, "PROBLEMS", problems)
    fault, right = group_norm_fault.group_norm_fault, kernel.group_norm
    assert fault(CPU, torch.float32) is None
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert fault(CPU, torch.bfloat16) is None
    monkeypatch.setattr(kernel, "group_norm", lambda *given: right(*given) * 1.00001)
    assert str(fault(CPU, torch.float32)).startswith("its results are off by")
    monkeypatch.setattr(kernel, "group_norm", lambda maps, weight, *rest: right(maps, weight.detach(), *rest))
    assert "RuntimeError" in str(fault(CPU, torch.float32))
    monkeypatch.setattr(kernel, "group_norm", lambda maps, *rest: right(1.0001 * maps - 1e-4 * maps.detach(), *rest))
    assert str(fault(CPU, torch.float32)).startswith("its gradients of maps are off by")


@pytest.mark.parametrize("faster", [True, False])
def test_it_is_chosen_by_a_measurement_once(monkeypatch: pytest.MonkeyPatch, faster: bool) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(choose_on_gpu, "group_norm_fault", lambda *_given: None)
    monkeypatch.setattr(choose_on_gpu, "norm_call", lambda kernel, *_given: lambda: kernel)
    measured = Mock(side_effect=lambda calls, _device: calls[faster]())
    monkeypatch.setattr(choose_on_gpu, "fastest", measured)
    choose_on_gpu._kernel_normalizes.cache_clear()
    for _ in range(2):
        assert normalizes_by_kernel(CUDA, torch.bfloat16, torch.float32, gradient=True) == faster
    assert not normalizes_by_kernel(CPU, torch.float32, torch.float32, gradient=True)
    assert measured.call_count == 1
    choose_on_gpu._kernel_normalizes.cache_clear()


@pytest.mark.parametrize("interpreted", [True, False])
def test_an_interpreted_kernel_and_one_with_a_fault_are_not_measured(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, interpreted: bool
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1" if interpreted else "0")
    monkeypatch.setattr(choose_on_gpu, "group_norm_fault", lambda *_given: "no compiler")
    choose_on_gpu._kernel_normalizes.cache_clear()
    assert not normalizes_by_kernel(CUDA, torch.bfloat16, torch.float32, gradient=True)
    reason = "Triton interprets its kernels" if interpreted else "no compiler"
    assert f"Group norm runs through PyTorch ({reason})" in caplog.text
    choose_on_gpu._kernel_normalizes.cache_clear()


@pytest.mark.parametrize("gradient", [False, True])
def test_both_ways_that_are_measured_run(monkeypatch: pytest.MonkeyPatch, gradient: bool) -> None:
    monkeypatch.setattr(choose_on_gpu, "GROUPS", 4)
    outs = [
        choose_on_gpu.norm_call(way, (2, 8, 2, 2), CPU, torch.bfloat16, torch.float32, gradient)()
        for way in (False, True)
    ]
    if gradient:
        assert outs == [None, None]
    else:
        torch.testing.assert_close(outs[1], outs[0], rtol=2**-6, atol=1e-2)


@pytest.fixture
def block() -> Bottleneck:
    """One with group norms and a projection, whose factors and offsets are not 1 and 0."""
    generator = torch.Generator().manual_seed(0)
    made = Bottleneck(4, 2, 1, "group", stride_in_1x1=True)
    for parameter in made.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    return made


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Counts the kernel's runs, where it is chosen also for two maps on a CPU."""
    monkeypatch.setattr(group_norm, "MAPS", 2)
    monkeypatch.setattr(group_norm, "normalizes_by_kernel", lambda *_given, **_more: True)
    counted = Mock(side_effect=kernel.group_norm)
    monkeypatch.setattr(kernel, "group_norm", counted)
    return counted


def test_a_block_trains_by_it_to_the_same_gradients(block: Bottleneck, launches: Mock) -> None:
    maps = torch.randn(2, 4, 3, 2, generator=torch.Generator().manual_seed(1))
    given = [maps.contiguous(memory_format=torch.channels_last).requires_grad_(), *block.parameters()]
    incoming = torch.randn(2, 8, 3, 2, generator=torch.Generator().manual_seed(2))
    found, expected = run_block(block, given[0]), block(given[0])
    assert [one.args[-1] for one in launches.call_args_list] == [True, True, False, False]  # with a ReLU
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    ours, theirs = (torch.autograd.grad(out, given, incoming) for out in (found, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("timed", [False, True])
def test_a_block_detects_by_it_where_kernels_are_timed(block: Bottleneck, launches: Mock, timed: bool) -> None:
    maps = torch.randn(2, 4, 3, 2, generator=torch.Generator().manual_seed(1))
    fused = fuse_block(block.eval(), Execution(torch.float32, onednn=False, timed=timed))
    with torch.inference_mode():
        expected = block(maps)
        found = fused(maps.contiguous(memory_format=torch.channels_last))
    assert launches.call_count == (4 if timed else 0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
