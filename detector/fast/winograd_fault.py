"""Whether minimal filtering computes what it should on this processor, tried before it is relied on."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.fast.convolution import Execution, RoIMaps
from detector.fast.whole_maps import WholeMapConv
from detector.fast.winograd import WinogradConv


def winograd_fault(dtype: torch.dtype) -> str | None:
    """Why minimal filtering cannot be used in this type; ask `onednn_fault` first.

    Returns:
        None when large maps and RoIs' maps are filtered right, else the reason in a few words.
    """
    generator = torch.Generator().manual_seed(0)
    large, maps = (torch.randn(*size, generator=generator) for size in ((1, 16, 32, 32), (4, 16, 14, 14)))
    weight = torch.randn(16, 16, 3, 3, generator=generator) / 12
    execution, of_rois = Execution(dtype, onednn=True), RoIMaps(4, 14)
    try:
        convs: list[tuple[nn.Module, Tensor, int]] = [
            (WinogradConv(weight, None, False, execution, block=64, min_saved=0), large, 1),
            *((WholeMapConv(weight, None, s, False, execution, of_rois, min_saved=0), maps, s) for s in (1, 2)),
        ]
        pairs = [
            (conv(execution.channels_last(x)), F.conv2d(x.to(dtype), weight.to(dtype), stride=stride, padding=1))
            for conv, x, stride in convs
        ]
    except (AttributeError, RuntimeError) as error:
        return str(error).splitlines()[0]
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    if all(torch.allclose(out, expected, tolerance, tolerance) for out, expected in pairs):
        return None
    return "their results are wrong on this processor"
