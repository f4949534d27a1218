"""Which kernels run, on this processor and on others."""

import dataclasses
import logging
from unittest.mock import Mock

import pytest
import torch
from kernels import CPU, chosen, forget_the_processor
from tiny_models import random_batch, tiny_config, tiny_model
from torch import nn

from detector.fast import choose, whole_maps, winograd
from detector.fast.choose import (
    Processor,
    choose_convolution,
    choose_execution,
    has_kernels,
    onednn_block,
    product_is_faster,
    product_pays,
    subsamples_first,
    this_processor,
)
from detector.fast.convolution import Execution, FusedConv, PackedConv, RoIMaps
from detector.fast.folding import fuse_conv
from detector.fast.fuse import fuse
from detector.fast.onednn import PackedProducts
from detector.fast.whole_maps import WholeMapConv
from detector.fast.winograd import WinogradConv
from detector.fast.winograd_fault import winograd_fault

EVERYTHING = Execution(torch.float64, onednn=False, winograd=True)
BLOCK = 6


@pytest.mark.parametrize(
    ("conv", "size", "uses"),
    [
        (nn.Conv2d(128, 128, 3, padding=1, bias=False), 7, WholeMapConv),
        (nn.Conv2d(128, 256, 3, stride=2, padding=1), 14, WholeMapConv),
        (nn.Conv2d(128, 128, 3, padding=1), 15, WinogradConv),
        (nn.Conv2d(128, 128, 3, stride=2, padding=1), 29, FusedConv),
        (nn.Conv2d(64, 128, 3, padding=1), 7, FusedConv),
        (nn.Conv2d(128, 128, 3, stride=2, padding=1), 1, FusedConv),
        (nn.Conv2d(128, 128, 1), 7, FusedConv),
    ],
    ids=str,
)
def test_which_kernel_has_which_convolution_of_roi_maps(conv: nn.Conv2d, size: int, uses: type[nn.Module]) -> None:
    maps = RoIMaps(BLOCK, size)
    assert type(fuse_conv(conv, None, True, EVERYTHING, maps=maps)) is uses
    assert type(fuse_conv(conv, None, True, Execution(torch.float32, onednn=False), maps=maps)) is FusedConv
    assert not isinstance(fuse_conv(conv, None, True, EVERYTHING), WholeMapConv)


@pytest.mark.parametrize(
    ("conv", "by_tiles"),
    [
        (nn.Conv2d(128, 128, 3, padding=1, bias=False), True),
        (nn.Conv2d(128, 256, 3, padding=1), True),
        (nn.Conv2d(64, 128, 3, padding=1), False),
        (nn.Conv2d(128, 128, 3, stride=2, padding=1), False),
        (nn.Conv2d(128, 128, 1), False),
    ],
    ids=str,
)
def test_which_kernel_has_which_convolution_of_other_maps(conv: nn.Conv2d, by_tiles: bool) -> None:
    assert type(fuse_conv(conv, None, True, EVERYTHING)) is (WinogradConv if by_tiles else FusedConv)
    assert type(fuse_conv(conv, None, True, Execution(torch.float64, onednn=False))) is FusedConv


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_which_parts_of_the_network_multiply_less(dtype: torch.dtype) -> None:
    model = tiny_model(tiny_config(backbone={"depth": 50, "stem_channels": 32, "width": 32}))
    fused = fuse(model, dtype)
    execution = choose_execution(dtype, CPU)
    uses = {name: type(part) for name, part in fused.named_modules() if isinstance(part, WinogradConv | WholeMapConv)}
    expected = {
        **{f"backbone.layers.4.{i}.first.1": WinogradConv for i in range(6)},  # conv4_x has 128 channels here
        "rpn.conv": WinogradConv,
        "roi_head.stage.layers.conv2": WholeMapConv,
        **{f"roi_head.stage.layers.blocks.{i}.first.1": WholeMapConv for i in (0, 1)},
    }
    assert uses == (expected if execution.winograd else {})
    assert fused.rpn.conv(torch.zeros(1, 512, 8, 8, dtype=execution.dtype)).dtype == execution.dtype


def test_a_processor_without_bfloat16_computes_in_float32_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, images = tiny_model(tiny_config(backbone={"depth": 50})), random_batch([(96, 128)])
    (expected,) = fuse(model)(images)
    forget_the_processor(monkeypatch)
    fault = choose.onednn_fault
    monkeypatch.setattr(choose, "onednn_fault", lambda dtype: "no such" if dtype == torch.bfloat16 else fault(dtype))
    with caplog.at_level(logging.WARNING):
        networks = [fuse(model, torch.bfloat16) for _ in range(2)]
        assert choose_execution(torch.bfloat16, CPU, compiled=True).dtype == torch.float32
    assert [record.getMessage() for record in caplog.records] == [
        "bfloat16 is not used: this processor has no kernels for it (no such). The network runs in float32, which is"
        " faster here and rounds less."
    ]
    for network in networks:
        assert network.backbone.execution == fuse(model).backbone.execution
        (detections,) = network(images)
        assert torch.equal(detections.boxes, expected.boxes)
        assert torch.equal(detections.scores, expected.scores)


def test_bfloat16_is_used_where_it_is_there() -> None:
    """Whichever processor: its kernels, or float32."""
    execution = choose_execution(torch.bfloat16, CPU)
    assert (execution.dtype == torch.bfloat16) == has_kernels(torch.bfloat16)
    assert execution.onednn == has_kernels(execution.dtype)


def test_what_runs_is_logged_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(choose, "onednn_fault", lambda _: None)
    monkeypatch.setattr(choose, "winograd_fault", lambda _: None)
    monkeypatch.setattr(choose, "this_processor", lambda: Processor("AVX512", amx=True))
    forget_the_processor(monkeypatch)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert choose_execution(torch.bfloat16, CPU) == Execution(torch.bfloat16, True, True, True)
    assert [record.getMessage() for record in caplog.records] == [
        "Convolutions run through oneDNN in bfloat16 (AVX512 with AMX).",
        "3×3 convolutions in bfloat16 multiply less: large maps by tiles, RoIs' maps whole.",
    ]


def test_elsewhere_oneDNN_has_no_part() -> None:  # noqa: N802
    for device in ("cuda", "mps"):
        for dtype in (torch.float32, torch.bfloat16):
            execution = choose_execution(dtype, torch.device(device), timed=False)  # timing it takes the device
            assert execution == Execution(dtype, onednn=False)
    assert choose_execution(torch.float64, CPU) == Execution(torch.float64, onednn=False)
    assert not choose_execution(torch.float32, CPU, compiled=True).onednn


def test_why_minimal_filtering_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if has_kernels(torch.float32):
        with monkeypatch.context() as broken:
            broken.setattr(PackedProducts, "__call__", lambda _, x: torch.zeros_like(x))
            assert "wrong" in str(winograd_fault(torch.float32))
        with monkeypatch.context() as broken:
            broken.setattr(whole_maps, "MIDDLE", 2 * whole_maps.MIDDLE)
            assert "wrong" in str(winograd_fault(torch.float32))
    monkeypatch.setattr(winograd, "point_products", Mock(side_effect=AttributeError("no such packing\nand more")))
    assert winograd_fault(torch.float32) == "no such packing"
    forget_the_processor(monkeypatch)
    monkeypatch.setattr(choose, "onednn_fault", lambda _: None)
    with caplog.at_level(logging.WARNING):
        execution = choose_execution(torch.float32, CPU)
    assert "no such packing" in caplog.text
    assert execution == Execution(torch.float32, onednn=True, winograd=False, timed=True)


AMX = Processor("AVX512", amx=True)


def test_products_are_tried_only_with_amx_in_bfloat16_and_when_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = Mock(return_value=True)
    monkeypatch.setattr(choose, "product_is_faster", tried)
    weight, maps = torch.empty(64, 32, 1, 1), RoIMaps(50, 7)
    timed = Execution(torch.bfloat16, True, True, timed=True)
    assert product_pays(weight, maps, timed, AMX)
    tried.assert_called_once_with(64, 32, maps, torch.bfloat16)
    for execution, processor in (
        (dataclasses.replace(timed, timed=False), AMX),
        (dataclasses.replace(timed, dtype=torch.float32), AMX),
        (timed, Processor("AVX512", amx=False)),
    ):
        assert not product_pays(weight, maps, execution, processor)
    tried.assert_called_once()


def test_a_chosen_product_is_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    execution = chosen(torch.float32)
    if not execution.onednn:
        assert (
            type(choose_convolution(torch.randn(8, 8, 1, 1), None, 1, 0, False, execution, RoIMaps(2, 2))) is FusedConv
        )
        return
    monkeypatch.setattr(choose, "product_pays", lambda *_: True)
    weight, maps = torch.randn(24, 16, 1, 1), RoIMaps(BLOCK, 7)
    conv = choose_convolution(weight, None, 1, 0, False, execution, maps)
    assert isinstance(conv, PackedConv)
    assert type(conv.packed).__name__ == "PackedMatrix"
    strided = choose_convolution(weight, None, 2, 0, False, execution, maps)
    assert isinstance(strided, PackedConv)
    assert type(strided.packed).__name__ == "PackedWeight"


class FakeConv:
    """In place of `PackedConv`: adds up, and as a product is off by a little where that is wanted."""

    off, off_with_residual = 0.0, 0.0

    def __init__(self, *arguments: object) -> None:
        self.is_product = bool(arguments[-1])

    def __call__(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        out = x.sum(dim=1) if residual is None else residual.sum(dim=1)
        return out + (self.off if residual is None else self.off_with_residual) * self.is_product


@pytest.mark.parametrize(
    ("off", "off_with_residual", "seconds", "expected"),
    [
        (0.0, 0.0, (2.0, 1.0), True),
        (0.0, 0.0, (1.0, 1.0), False),
        (0.0, 0.0, (1.0, 2.0), False),
        (0.5, 0.0, (2.0, 1.0), False),
        (0.0, 0.5, (2.0, 1.0), False),
    ],
)
def test_a_product_is_chosen_when_it_is_faster_and_its_bits_are_the_same(
    off: float, off_with_residual: float, seconds: tuple[float, float], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeConv, "off", off)
    monkeypatch.setattr(FakeConv, "off_with_residual", off_with_residual)
    monkeypatch.setattr(choose, "PackedConv", FakeConv)
    monkeypatch.setattr(choose, "_turns", lambda *_: [seconds, (9.0, 9.0)])
    assert product_is_faster.__wrapped__(5, 4, RoIMaps(2, 3), torch.float32) == expected


def test_trying_products_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    choose._turns(lambda: calls.append(1), lambda: calls.append(2), end=0.0)  # type: ignore[arg-type, func-returns-value]
    assert calls == [1, 2]
    if has_kernels(torch.float32):  # the kernels themselves, whichever is the faster here
        monkeypatch.setattr(choose, "PRODUCT_SECONDS", 0.0)
        assert product_is_faster.__wrapped__(32, 16, RoIMaps(2, 7), torch.float32) in (True, False)


def test_the_processor_is_named() -> None:
    assert str(AMX) == "AVX512 with AMX"
    assert str(this_processor()).split()[0] == torch.backends.cpu.get_cpu_capability()


@pytest.mark.parametrize(("avx512", "block"), [(True, 16), (False, 8), (None, 16)])
def test_maps_of_fewer_channels_than_a_block_are_subsampled_before_a_strided_1x1_convolution(
    avx512: bool | None, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if avx512 is None:
        monkeypatch.delattr(torch.cpu, "_is_avx512_supported")
    else:
        monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: avx512)
    onednn_block.cache_clear()
    try:
        few, enough = torch.empty(1, block - 1, 8, 8), torch.empty(1, block, 8, 8)
        pointwise, square = torch.empty(8, block - 1, 1, 1), torch.empty(8, block - 1, 3, 3)
        assert subsamples_first(few, pointwise, 2, 0)
        assert not subsamples_first(enough, torch.empty(8, block, 1, 1), 2, 0)
        assert not subsamples_first(few, pointwise, 1, 0)
        assert not subsamples_first(few, pointwise, 2, 1)
        assert not subsamples_first(few, square, 2, 0)
        assert not subsamples_first(few.to("meta"), pointwise.to("meta"), 2, 0)
    finally:
        onednn_block.cache_clear()
