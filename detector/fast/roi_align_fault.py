"""Whether our kernels for RoIAlign compute what torchvision's does on this GPU, tried before they are relied on."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torchvision.ops import roi_align

from detector.fast.roi_levels import pool_levels
from detector.model.roi_pooling import RoIPooling
from detector.structures import FeatureMap, Features

MAP, REGIONS = (50, 76), 64  # of what is tried: a picture of 800×1216 at stride 16


def pooling_fault(pooling: RoIPooling, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why the kernel for RoIAlign cannot be used on this device in this type, or None if it is there and right."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 40, *MAP, generator=generator).to(device, dtype, memory_format=torch.channels_last)
    rois = regions(REGIONS, MAP, device, generator)

    def by_kernel() -> Tensor:
        from detector.fast.roi_align_kernel import pool

        return pool(maps, rois, pooling, 16)

    def by_torchvision(computed_in: torch.dtype) -> Tensor:
        values, scale = maps.to(computed_in).contiguous(), 1.0 / 16
        return roi_align(values, rois.to(computed_in), pooling.size, scale, pooling.sampling_ratio, pooling.aligned)

    return _fault(by_kernel, by_torchvision, dtype)


def levels_fault(pooling: RoIPooling, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why the kernel for the levels of a pyramid cannot be used, or None: see `pooling_fault`."""
    features, rois = pyramid(40, MAP, REGIONS, pooling, device, dtype)

    def by_torchvision(computed_in: torch.dtype) -> Tensor:
        maps = tuple(FeatureMap(values.to(computed_in), stride) for values, stride in features)
        return pool_levels(maps, rois, pooling)

    return _fault(partial(pool_levels, features, rois, pooling, kernel=True), by_torchvision, dtype)


def _fault(
    by_kernel: Callable[[], Tensor], by_torchvision: Callable[[torch.dtype], Tensor], dtype: torch.dtype
) -> str | None:
    """Why a kernel does not pool as exactly as torchvision's, or that it cannot be run; None where it is right.

    What a place in a map, rounded to float32, costs grows with the map: on one of 200×304 cells torchvision too is
    off by 2e-5. So both are compared with what torchvision gives in float64.
    """
    try:
        exact = by_torchvision(torch.float64)
        pooled = (by_kernel(), by_torchvision(torch.float32))
        error, usual = (float((one.double() - exact).abs().max() / exact.abs().max()) for one in pooled)
    except Exception as reason:  # without Triton, without a compiler, on a GPU that it does not know
        return f"{type(reason).__name__}: {(str(reason).strip() or 'no reason given').splitlines()[0]}"
    if error <= 2 * usual + 4 * torch.finfo(dtype).eps:
        return None
    return f"its results are off by {error:.1e}, torchvision's by {usual:.1e}"


def regions(count: int, size: tuple[int, int], device: torch.device, generator: torch.Generator) -> Tensor:
    """[count, 5] RoIs of many sizes on the first of some maps, which have this size (rows, columns) at stride 16."""
    pixels = torch.tensor([size[1], size[0]]) * 16.0
    extents = pixels * torch.rand(count, 2, generator=generator) ** 2 * 0.8 + 8
    corners = (pixels - extents).clamp(min=0) * torch.rand(count, 2, generator=generator)
    return torch.cat((torch.zeros(count, 1), corners, corners + extents), dim=1).to(device)


def pyramid(
    channels: int,
    size: tuple[int, int],
    count: int,
    pooling: RoIPooling,
    device: torch.device,
    dtype: torch.dtype,
    gradient: bool = False,
) -> tuple[Features, Tensor]:
    """Maps of strides 4 to 64, that of stride 16 of this size, or that alone where there are no levels; and RoIs."""
    generator = torch.Generator().manual_seed(0)
    strides = (16,) if pooling.level_rule is None else (4, 8, 16, 32, 64)
    features = []
    for stride in strides:
        shape = [max(1, cells * 16 // stride) for cells in size]
        values = torch.randn(1, channels, *shape, generator=generator)
        values = values.to(device, dtype, memory_format=torch.channels_last).requires_grad_(gradient)
        features.append(FeatureMap(values, stride))
    return tuple(features), regions(count, size, device, generator)
