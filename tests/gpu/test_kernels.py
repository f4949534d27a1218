"""Kernels compiled for the GPU give what the CPU gives."""

import itertools

import pytest
import torch
from overlaps import ARRANGEMENTS, THRESHOLDS, arranged
from torchvision.ops import roi_align

from detector.arithmetic import float32_products
from detector.fast import nms
from detector.fast.convolution import Execution, FusedConv
from detector.fast.graphs import Graphed
from detector.fast.group_norm_fault import EPS, by_pytorch, group_norm_fault
from detector.fast.roi_align_fault import levels_fault, pooling_fault
from detector.fast.roi_levels import pool_levels
from detector.model.roi_pooling import RoIPooling
from detector.structures import FeatureMap


@pytest.mark.usefixtures("real_cuda")
def test_the_kernel_for_nms_is_used() -> None:
    assert nms.kernel_fault(torch.device("cuda", 0)) is None


@pytest.mark.parametrize("kind", ARRANGEMENTS)
def test_nms_keeps_the_same_boxes(cuda: torch.device, kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for threshold, count in itertools.product(THRESHOLDS, (1, 64, 65, 1000, 3000)):
        boxes = torch.stack([arranged(kind, count, generator) for _ in range(2)])
        valid = torch.rand(2, count, generator=generator) < 0.9
        groups = torch.randint(0, 4, (2, count), generator=generator)
        for members, wanted in ((None, count), (groups, count), (None, 100)):
            expected = nms.survivors(boxes, valid, members, threshold, wanted)
            moved = [None if t is None else t.to(cuda) for t in (boxes, valid, members)]
            assert torch.equal(nms.survivors(*moved, threshold, wanted).cpu(), expected)  # type: ignore[arg-type]


@pytest.mark.usefixtures("real_cuda")
@pytest.mark.parametrize("kind", ARRANGEMENTS)
def test_both_ways_of_nms_keep_the_same_boxes(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for pictures, count, wanted in ((2, 65, 65), (2, 1000, 1001), (2, 6000, 1000), (1, 12000, 2000), (1, 6000, 6000)):
        boxes = torch.stack([arranged(kind, count, generator) for _ in range(pictures)])
        valid = torch.rand(pictures, count, generator=generator) < 0.9
        groups = torch.randint(0, 5, (pictures, count), generator=generator)
        for members in (None, groups):
            expected = nms.survivors(boxes, valid, members, 0.7, wanted)
            moved = [None if t is None else t.cuda() for t in (boxes, valid, members)]
            for way in nms.ways():
                assert torch.equal(way(*moved, 0.7, wanted).cpu(), expected)  # type: ignore[arg-type]


@pytest.mark.usefixtures("real_cuda")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("size", "ratio", "aligned"), [(14, 0, True), (14, 2, False), (7, 0, True)])
def test_the_kernel_for_roi_align_is_right(dtype: torch.dtype, size: int, ratio: int, aligned: bool) -> None:
    pooling = RoIPooling("align", size, ratio, aligned)
    assert pooling_fault(pooling, torch.device("cuda", 0), dtype) is None


@pytest.mark.usefixtures("real_cuda")
@pytest.mark.parametrize("step", [1, 2])
def test_roi_align_has_torchvisions_gradients(step: int) -> None:
    from detector.fast.roi_align_kernel import pool

    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 200, 30, 40, generator=generator).cuda().requires_grad_()
    corners = torch.rand(50, 2, generator=generator) * torch.tensor([500.0, 400.0])
    images = torch.randint(0, 2, (50, 1), generator=generator)
    rois = torch.cat((images, corners, corners + torch.rand(50, 2, generator=generator) * 300), dim=1).cuda()
    found = pool(maps, rois, RoIPooling("align", 14), 16, step)
    expected = roi_align(maps, rois, 14, 1 / 16, 0, True)[:, :, ::step, ::step]
    weights = torch.randn(expected.shape, generator=generator).cuda()
    ours, theirs = (torch.autograd.grad((out * weights).sum(), maps)[0] for out in (found, expected))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("real_cuda")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ratio", [0, 2])
def test_the_kernel_for_the_levels_of_a_pyramid_is_right(dtype: torch.dtype, ratio: int) -> None:
    pooling = RoIPooling("align", 7, ratio, level_rule="detectron2")
    assert levels_fault(pooling, torch.device("cuda", 0), dtype) is None


@pytest.mark.usefixtures("real_cuda")
def test_all_levels_of_a_pyramid_have_torchvisions_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    strides = (4, 8, 16, 32, 64)
    maps = [torch.randn(2, 96, 512 // s, 640 // s, generator=generator).cuda().requires_grad_() for s in strides]
    features = tuple(FeatureMap(one, stride) for one, stride in zip(maps, strides, strict=True))
    corners = torch.rand(60, 2, generator=generator) * torch.tensor([500.0, 400.0])
    extents = 8 + torch.rand(60, 2, generator=generator) ** 3 * 600
    images = torch.randint(0, 2, (60, 1), generator=generator)
    rois = torch.cat((images, corners, corners + extents), dim=1).cuda()
    pooling = RoIPooling("align", 7, level_rule="detectron2")
    found, expected = (pool_levels(features, rois, pooling, kernel) for kernel in (True, False))
    weights = torch.randn(expected.shape, generator=generator).cuda()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    for ours, theirs in zip(
        *(torch.autograd.grad((out * weights).sum(), maps[:-1]) for out in (found, expected)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("real_cuda")
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(512, 512, 7, 7), (256, 512, 14, 14), (128, 2048, 7, 7), (64, 2048, 14, 14)])
def test_group_norm_has_the_values_and_gradients_of_float64(
    shape: tuple[int, ...], dtype: torch.dtype, relu: bool
) -> None:
    from detector.fast.group_norm_kernel import group_norm

    assert group_norm_fault(torch.device("cuda", 0), dtype) is None
    generator = torch.Generator().manual_seed(0)
    maps, incoming = (torch.randn(shape, generator=generator) for _ in range(2))
    maps, incoming = ((t + 1).to("cuda", dtype, memory_format=torch.channels_last) for t in (maps, incoming))
    given = [maps, *torch.randn(2, shape[1], generator=generator).cuda()]
    exact = [t.double().requires_grad_() for t in given]
    given = [t.requires_grad_() for t in given]
    with torch.no_grad():  # rounding decides where the ReLU cuts
        incoming *= by_pytorch(*exact, 32, EPS, False).abs() > 1e-3
    found, expected = group_norm(*given, 32, EPS, relu), by_pytorch(*exact, 32, EPS, relu)
    ours = (found, *torch.autograd.grad(found, given, incoming))
    theirs = (expected, *torch.autograd.grad(expected, exact, incoming.double()))
    for a, b in zip(ours, theirs, strict=True):
        assert (a.double() - b).abs().max() <= max(5e-6, torch.finfo(a.dtype).eps) * b.abs().max()


@pytest.mark.usefixtures("real_cuda")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cudnns_fused_convolutions_compute_the_same(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(96, 64, 3, 3, generator=generator), torch.randn(96, generator=generator)
    x, residual = torch.randn(4, 64, 28, 28, generator=generator), torch.randn(4, 96, 14, 14, generator=generator)
    fused, separate = (
        FusedConv(weight, bias, 2, 1, True, Execution(dtype, onednn=False, cudnn=cudnn)).cuda()
        for cudnn in (True, False)
    )
    x, residual = (t.to("cuda", dtype, memory_format=torch.channels_last) for t in (x, residual))
    with float32_products("float32"):
        for given in ((x,), (x, residual)):
            ours, theirs = (conv(*(t.clone() for t in given)).float() for conv in (fused, separate))
            assert (ours - theirs).abs().max() <= 8 * torch.finfo(dtype).eps * theirs.abs().max()


@pytest.mark.usefixtures("real_cuda")
def test_a_graph_gives_the_same_bits_and_memory_of_its_own() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(inplace=True)).cuda().requires_grad_(False)
    part = Graphed(network, "a part")
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(1, 3, 20, 30, generator=generator).cuda() for _ in range(6)]
    with torch.inference_mode():
        found = [part(x) for x in given]
        for out, x in zip(found, given, strict=True):
            assert torch.equal(out, network(x))
    assert not part._failed
