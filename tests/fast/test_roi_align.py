import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align

from detector.fast.roi_align import align, bin_weights, order_by_size, pool_aligned
from detector.model.roi_pooling import RoIPooling
from detector.structures import FeatureMap

SIZE = (13, 19)
EDGES = torch.tensor(
    [
        [0.0, 0, 304, 208],  # the whole map
        [303.5, 207.5, 304, 208],  # on the last pixel
        [0, 0, 1, 1],
        [100, 100, 100, 100],  # without area
        [304, 208, 304, 208],
        [-100, -90, 50, 60],  # across a corner
        [250, 150, 500, 400],
        [-400, -400, -200, -200],  # outside
        [-900, -900, 1500, 1500],
        [100, 0, 101, 208],  # thin
        [0, 100, 304, 101],
    ]
)


def random_rois(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(count, 2, 2, generator=generator) * torch.tensor([400.0, 300.0]) - 50
    boxes = torch.cat((corners.amin(dim=1), corners.amax(dim=1)), dim=1)
    boxes = torch.cat((boxes, EDGES))
    return torch.cat((torch.arange(boxes.shape[0])[:, None] % 2, boxes), dim=1)


def random_maps(channels: int, dtype: torch.dtype) -> Tensor:
    maps = torch.randn(2, channels, *SIZE, dtype=dtype, generator=torch.Generator().manual_seed(1))
    return maps.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("bins", [14, 7])
def test_equals_torchvisions(dtype: torch.dtype, aligned: bool, sampling_ratio: int, bins: int) -> None:
    pooling = RoIPooling("align", bins, sampling_ratio, aligned)
    maps, rois = random_maps(5, dtype), random_rois(60).to(dtype)
    expected = roi_align(maps, rois, bins, 1 / 16, sampling_ratio, aligned)
    weights = bin_weights(rois, SIZE, 16, pooling)
    tolerance = 1e-14 if dtype == torch.float64 else 2e-6
    torch.testing.assert_close(align(maps, [weights]), expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(align(maps, [weights], step=2), expected[:, :, ::2, ::2], rtol=0, atol=tolerance)


@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_corners_may_be_swapped(sampling_ratio: int) -> None:
    rois = torch.tensor([[0.0, 200, 150, 100, 60]])
    weights = bin_weights(rois, SIZE, 16, RoIPooling("align", 7, sampling_ratio, aligned=True))
    found = align(random_maps(3, torch.float32), [weights])
    if sampling_ratio == 0:  # no samples; torchvision asks for more memory than there is
        assert torch.equal(found, torch.zeros(1, 3, 7, 7))
    else:
        expected = roi_align(random_maps(3, torch.float32), rois, 7, 1 / 16, sampling_ratio, True)
        torch.testing.assert_close(found, expected)


def test_result_is_channels_last() -> None:
    weights = bin_weights(random_rois(3), SIZE, 16, RoIPooling("align", 14))
    assert align(random_maps(8, torch.float32), [weights]).is_contiguous(memory_format=torch.channels_last)


def test_several_maps_at_their_own_steps() -> None:
    pooling, rois = RoIPooling("align", 14), random_rois(150)  # more than are taken together
    maps = [random_maps(3, torch.float32), random_maps(6, torch.float32)]
    first, second = pool_aligned([FeatureMap(m, 16) for m in maps], rois, pooling, [1, 2])
    torch.testing.assert_close(first, roi_align(maps[0], rois, 14, 1 / 16, 0, True), rtol=0, atol=2e-6)
    expected = roi_align(maps[1], rois, 14, 1 / 16, 0, True)[:, :, ::2, ::2]
    torch.testing.assert_close(second, expected, rtol=0, atol=2e-6)


def test_gradients_equal_torchvisions() -> None:
    pooling, rois = RoIPooling("align", 14), random_rois(30).double()
    maps = random_maps(4, torch.float64).requires_grad_()
    upstream = torch.randn(rois.shape[0], 4, 14, 14, dtype=torch.float64)
    (found,) = torch.autograd.grad(align(maps, [bin_weights(rois, SIZE, 16, pooling)]), maps, upstream)
    (expected,) = torch.autograd.grad(roi_align(maps, rois, 14, 1 / 16, 0, True), maps, upstream)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_order_puts_equal_grids_together() -> None:
    small, large, wide = [0.0, 0, 0, 10, 10], [0.0, 0, 0, 300, 300], [0.0, 0, 0, 300, 10]
    rois = torch.tensor([large, small, wide, large, small, wide])
    order = order_by_size(rois, RoIPooling("align", 14), 16).tolist()
    assert [sorted(order[i : i + 2]) for i in (0, 2, 4)] == [[1, 4], [2, 5], [0, 3]]
