"""One launch for all levels of a pyramid, in Triton's interpreter, against what the CPU pools level by level."""

from collections.abc import Iterator
from unittest.mock import Mock

import pytest
import torch
from device_cases import network
from interpreted import kernels
from torch import Tensor

from detector.fast import box_head, choose_on_gpu, roi_align_fault, training_heads
from detector.fast.choose_on_gpu import pools_levels_by_kernel
from detector.fast.convolution import Execution
from detector.fast.roi_align import align, bin_weights
from detector.fast.roi_align_fault import levels_fault
from detector.fast.roi_levels import pool_levels
from detector.model import roi_head
from detector.model.roi_pooling import RoIPooling, roi_levels
from detector.structures import FeatureMap

kernels("detector.fast.roi_align_kernel")
from detector.fast import roi_align_pyramid as pyramid  # noqa: E402

STRIDES = (4, 8, 16, 32)
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
Problem = tuple[list[Tensor], Tensor, Tensor, RoIPooling]


def problems(count: int, regions: int, seed: int) -> Iterator[Problem]:
    """Maps of all levels, RoIs [regions, 5] of many sizes, in part outside of the map, their levels, and pooling."""
    generator = torch.Generator().manual_seed(seed)

    def whole(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    for number in range(count):
        channels = whole(1, 7)
        maps = [torch.randn(2, channels, whole(1, 6), whole(1, 6), generator=generator) for _ in STRIDES]
        levels = torch.randint(0, len(STRIDES), (regions,), generator=generator)
        reach = torch.tensor(STRIDES)[levels, None] * 6.0  # pixels: the largest map's edge
        centers, extents = (torch.rand(regions, 2, generator=generator) * reach for _ in range(2))
        if number % 4 == 3:
            extents = extents * 0
        images = torch.randint(0, 2, (regions, 1), generator=generator)
        rois = torch.cat((images, centers - extents / 2, centers + extents / 2), dim=1)
        yield maps, rois, levels, RoIPooling("align", 1 + number % 2, whole(0, 3), number % 3 > 0)


def by_levels(maps: list[Tensor], rois: Tensor, levels: Tensor, pooling: RoIPooling) -> Tensor:
    """Each RoI by itself from its map."""
    pooled = []
    for roi, level in zip(rois, levels.tolist(), strict=True):
        values = maps[level].contiguous(memory_format=torch.channels_last)
        bins = bin_weights(roi[None], (values.shape[2], values.shape[3]), STRIDES[level], pooling)
        pooled.append(align(values, [bins]))
    return torch.cat(pooled)


@pytest.mark.parametrize(
    ("count", "regions", "seed"), [(8, 2, 0), pytest.param(64, 5, 1, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_the_cpus_values_and_gradients(count: int, regions: int, seed: int) -> None:
    for maps, rois, levels, pooling in problems(count, regions, seed):
        given = [one.requires_grad_() for one in maps]
        found = pyramid.pool_pyramid(given, STRIDES, rois, levels, pooling)
        expected = by_levels(given, rois, levels, pooling)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
        assert found.is_contiguous(memory_format=torch.channels_last)
        weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(seed))
        ours, theirs = (
            torch.autograd.grad((out * weights).sum(), given, allow_unused=True) for out in (found, expected)
        )
        for a, b, one in zip(ours, theirs, given, strict=True):
            torch.testing.assert_close(a, torch.zeros_like(one) if b is None else b, rtol=0, atol=1e-5)


def test_bfloat16_is_summed_in_float32() -> None:
    ((maps, rois, levels, pooling),) = problems(1, 3, 2)
    rounded = [one.bfloat16().requires_grad_() for one in maps]
    found = pyramid.pool_pyramid(rounded, STRIDES, rois, levels, pooling)
    assert found.dtype == torch.bfloat16
    expected = by_levels([one.detach().float() for one in rounded], rois, levels, pooling)
    torch.testing.assert_close(found.float(), expected, rtol=2**-7, atol=1e-6)  # the interpreter cuts off the rest
    assert {gradient.dtype for gradient in torch.autograd.grad(found.float().sum(), rounded)} == {torch.bfloat16}


@pytest.mark.parametrize("rule", ["detectron2", None])
def test_each_region_comes_from_the_level_that_suits_it(rule: str | None) -> None:
    generator = torch.Generator().manual_seed(3)
    strides = (4, 8, 16, 32, 64) if rule else (16,)
    features = tuple(FeatureMap(torch.randn(2, 3, 4, 5, generator=generator), stride) for stride in strides)
    rois = torch.tensor([[0.0, 1, 2, 15, 12], [1, 0, 0, 130, 100], [0, 2, 3, 300, 200], [1, 10, 5, 640, 480]])
    pooling = RoIPooling("align", 2, 1, level_rule=rule)  # type: ignore[arg-type]
    assert rule is None or roi_levels(rois, 4, "detectron2").tolist() == [0, 1, 2, 3]
    found, expected = (pool_levels(features, rois, pooling, kernel) for kernel in (True, False))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_no_regions() -> None:
    maps = [torch.zeros(1, 3, 2, 2) for _ in STRIDES]
    found = pyramid.pool_pyramid(
        maps, STRIDES, torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64), RoIPooling("align", 7)
    )
    assert found.shape == (0, 3, 7, 7)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Problems of choosing that an interpreter can be asked to solve."""
    for module, regions in ((choose_on_gpu, 2), (roi_align_fault, 3)):
        monkeypatch.setattr(module, "MAP", (2, 3))
        monkeypatch.setattr(module, "REGIONS", regions)


@pytest.mark.usefixtures("small")
def test_a_kernel_that_is_right_has_no_fault_and_one_that_is_not_has(monkeypatch: pytest.MonkeyPatch) -> None:
    pooling = RoIPooling("align", 2, 1, level_rule="torchvision")
    assert levels_fault(pooling, CPU, torch.float32) is None
    assert levels_fault(pooling, CPU, torch.bfloat16) is None
    right = pyramid.pool_pyramid
    monkeypatch.setattr(pyramid, "pool_pyramid", lambda *given: right(*given) * 1.00001)
    assert str(levels_fault(pooling, CPU, torch.float32)).startswith("its results are off by")
    monkeypatch.setattr(pyramid, "pool_pyramid", lambda *_given: 1 / 0)
    assert levels_fault(pooling, CPU, torch.float32) == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("faster", [True, False])
def test_it_is_chosen_by_a_measurement(monkeypatch: pytest.MonkeyPatch, faster: bool) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(choose_on_gpu, "levels_fault", lambda *_given: None)
    monkeypatch.setattr(choose_on_gpu, "_levels_call", lambda kernel, *_given: lambda: kernel)
    monkeypatch.setattr(choose_on_gpu, "fastest", lambda calls, _device: calls[faster]())
    choose_on_gpu._kernel_pools_levels.cache_clear()
    pooling = RoIPooling("align", 7, level_rule="detectron2")
    assert pools_levels_by_kernel(pooling, CUDA, torch.bfloat16, gradient=False) == faster
    for device, dtype, timed in ((CPU, torch.float32, True), (CUDA, torch.float64, True), (CUDA, torch.float32, False)):
        assert not pools_levels_by_kernel(pooling, device, dtype, False, timed)
    choose_on_gpu._kernel_pools_levels.cache_clear()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("gradient", [False, True])
def test_both_ways_that_are_measured_run(gradient: bool) -> None:
    pooling = RoIPooling("align", 1, 1, level_rule="detectron2")
    outs = [choose_on_gpu._levels_call(k, pooling, CPU, torch.float32, gradient)() for k in (False, True)]
    if gradient:
        assert outs == [None, None]
    else:
        torch.testing.assert_close(outs[1], outs[0], rtol=0, atol=2e-6)


def test_heads_of_a_pyramid_pool_by_it_where_it_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """In detection and in training, to the same vectors."""
    model, _ = network("FPN")
    plain = model.roi_head
    assert isinstance(plain, roi_head.FullyConnectedHead)
    generator = torch.Generator().manual_seed(4)
    features = tuple(FeatureMap(torch.randn(1, 16, 3, 4, generator=generator), s) for s in (4, 8, 16, 32, 64))
    boxes = [torch.tensor([[1.0, 2, 15, 12], [3, 3, 200, 180]])]
    launches = Mock(side_effect=pyramid.pool_pyramid)
    monkeypatch.setattr(pyramid, "pool_pyramid", launches)

    def vectors(by_kernel: bool) -> list[Tensor]:
        for module in (box_head, training_heads):
            monkeypatch.setattr(module, "pools_levels_by_kernel", lambda *_given, **_named: by_kernel)
        execution = Execution(torch.float32, onednn=False)
        heads = (box_head.FullyConnectedHead(plain, execution), training_heads.FullyConnectedHead(plain))
        return [head.vectors(features, boxes) for head in heads]

    expected = vectors(by_kernel=False)
    assert launches.call_count == 0
    for ours, theirs in zip(vectors(by_kernel=True), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert launches.call_count == 2
