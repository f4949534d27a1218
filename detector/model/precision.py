"""Where a half-precision network computes with more."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """The same in float32, where it is of a smaller type: logits, deltas and coordinates deserve more than 8 bits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
