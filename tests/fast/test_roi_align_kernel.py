"""The kernel for RoIAlign in Triton's interpreter, on the CPU, against `align` and torchvision's."""

from typing import Any

import pytest
import torch
from device_cases import network
from interpreted import kernels
from tiny_models import random_batch
from torch import Tensor
from torchvision.ops import roi_align

from detector.fast.convolution import Execution
from detector.fast.roi_align import align, bin_weights
from detector.fast.roi_align_fault import pooling_fault
from detector.fast.roi_head import HoistedStage, PooledStage
from detector.model.roi_head import RoIHead
from detector.model.roi_pooling import RoIPooling

kernel = kernels("detector.fast.roi_align_kernel")
CHOICES = [(ratio, aligned, step) for ratio in (0, 1, 2) for aligned in (True, False) for step in (1, 2)]
SIZES = (1, 2)


def problem(generator: torch.Generator, kind: str, count: int = 1) -> tuple[Tensor, Tensor]:
    """Maps [2, C, H', W'] and RoIs [count, 5]."""

    def whole(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    height, width = whole(1, 7), whole(1, 7)
    maps = torch.randn(2, whole(1, 9), height, width, generator=generator)
    size = torch.tensor([width, height]) * 16.0
    centers, extents = (
        torch.rand(count, 2, generator=generator) * size,
        torch.rand(count, 2, generator=generator) * size,
    )
    if kind == "whole cells":
        centers, extents = (centers / 16).round() * 16, (extents / 16).ceil() * 16
    elif kind == "small":
        extents = extents / 8
    elif kind == "without area":
        extents = extents * 0
    elif kind == "outside":
        centers = centers + size
    images = torch.randint(0, 2, (count, 1), generator=generator)
    return maps, torch.cat((images, centers - extents / 2, centers + extents / 2), dim=1)


def expected_of(maps: Tensor, rois: Tensor, pooling: RoIPooling, step: int) -> Tensor:
    maps = maps.contiguous(memory_format=torch.channels_last)
    return align(maps, [bin_weights(rois, (maps.shape[2], maps.shape[3]), 16, pooling)], step)


@pytest.mark.parametrize("kind", ["anywhere", "small", "whole cells", "without area", "outside"])
def test_the_same_values_as_todays_and_as_torchvisions(kind: str) -> None:
    """120 problems in all: twelve choices, two sizes, five kinds of RoI."""
    generator = torch.Generator().manual_seed(0)
    for ratio, aligned, step in CHOICES:
        for size in SIZES:
            maps, rois = problem(generator, kind)
            pooling = RoIPooling("align", size, ratio, aligned)
            found = kernel.pool(maps, rois, pooling, 16, step)
            torch.testing.assert_close(found, expected_of(maps, rois, pooling, step), rtol=0, atol=2e-6)
            theirs = roi_align(maps, rois, size, 1 / 16, ratio, aligned)[:, :, ::step, ::step]
            torch.testing.assert_close(found, theirs, rtol=0, atol=2e-5)
            assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("finish", [False, True], ids=["plain", "bias and ReLU"])
@pytest.mark.parametrize("kind", ["anywhere", "outside"])
def test_the_same_gradients(kind: str, finish: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    for ratio, aligned, step in [(0, True, 1), (0, False, 2), (2, True, 2)]:
        maps, rois = problem(generator, kind, count=2)
        bias = torch.randn(maps.shape[1], generator=generator) if finish else None
        given = [t.requires_grad_() for t in (maps, bias) if t is not None]
        pooling = RoIPooling("align", 2, ratio, aligned)
        expected = expected_of(maps, rois, pooling, step)
        if bias is not None:
            expected = (expected + bias.view(-1, 1, 1)).relu()
        found = kernel.pool(maps, rois, pooling, 16, step, bias, finish)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
        weights = torch.randn(found.shape, generator=generator)
        ours, theirs = (torch.autograd.grad((out * weights).sum(), given) for out in (found, expected))
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_bfloat16_is_summed_in_float32() -> None:
    maps, rois = problem(torch.Generator().manual_seed(2), "anywhere", count=2)
    rounded = maps.bfloat16()
    pooling = RoIPooling("align", 2)
    found = kernel.pool(rounded, rois, pooling, 16)
    assert found.dtype == torch.bfloat16
    expected = expected_of(rounded.float(), rois, pooling, 1)
    torch.testing.assert_close(found.float(), expected, rtol=2**-7, atol=1e-6)  # the interpreter cuts off the rest
    given = rounded.requires_grad_()
    (gradient,) = torch.autograd.grad(kernel.pool(given, rois, pooling, 16).float().sum(), given)
    assert gradient.dtype == torch.bfloat16


def test_more_channels_than_a_program_has_and_no_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "FORWARD_CHANNELS", 4)
    monkeypatch.setattr(kernel, "BACKWARD_CHANNELS", 4)
    generator = torch.Generator().manual_seed(3)
    maps, rois = torch.randn(1, 10, 4, 4, generator=generator), torch.tensor([[0.0, 5, 5, 50, 60]])
    pooling = RoIPooling("align", 2)
    found = kernel.pool(maps, rois, pooling, 16)
    torch.testing.assert_close(found, expected_of(maps, rois, pooling, 1), rtol=0, atol=2e-6)
    assert kernel.pool(maps, rois[:0], pooling, 16).shape == (0, 10, 2, 2)


@pytest.mark.parametrize("kind", ["bottlenecks", "group norm in conv5_x"])
@pytest.mark.parametrize("stage", [HoistedStage, PooledStage])
def test_conv5_x_from_what_the_kernel_pools(kind: str, stage: Any) -> None:
    model, _ = network(kind)
    head = model.roi_head
    assert isinstance(head, RoIHead)
    rois = torch.tensor([[0.0, 3, 5, 90, 70]])
    with torch.inference_mode():
        (features,) = model.features(random_batch([(64, 96)]))
        pooling = RoIPooling("align", 4)
        found, expected = (
            made(features, rois)
            for made in (
                run(stage(pooling, head.conv5_x[:-1], 4, Execution(torch.float32, onednn=False), by_kernel))
                for by_kernel in (True, False)
            )
        )
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def run(stage: Any) -> Any:
    return lambda features, rois: stage(stage.prepare(features), rois)


def test_a_kernel_that_is_right_has_no_fault_and_one_that_is_not_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detector.fast.roi_align_fault.MAP", (3, 4))
    monkeypatch.setattr("detector.fast.roi_align_fault.REGIONS", 3)
    pooling, cpu = RoIPooling("align", 2), torch.device("cpu")
    assert pooling_fault(pooling, cpu, torch.float32) is None
    assert pooling_fault(pooling, cpu, torch.bfloat16) is None
    right = kernel.pool
    monkeypatch.setattr(kernel, "pool", lambda *given: right(*given) * 1.01)
    assert str(pooling_fault(pooling, cpu, torch.float32)).startswith("its results are off by")
