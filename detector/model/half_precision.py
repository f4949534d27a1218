"""The places where a half-precision network (bfloat16) still computes in float32."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """`x` as float32 if its type is smaller, else as it is.

    Logits, deltas and coordinates need it: bfloat16 keeps 8 significant bits, so a coordinate above 1024 would be a
    multiple of 8 pixels, and many logits would be equal.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))
