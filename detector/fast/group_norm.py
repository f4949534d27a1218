"""A norm of maps with the ReLU after it: group norm by our kernel where a GPU has it and is faster with it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.fast.choose_on_gpu import normalizes_by_kernel

MAPS = 64  # fewer keep no GPU busy: those of pictures, not of RoIs
# Of a group: 14×14 cells of 64 channels, padded to powers of two. More do not fit a program's registers.
VALUES = 16_384
TYPES = (torch.bfloat16, torch.float32)


def normalize(norm: nn.Module, x: Tensor, relu: bool = False) -> Tensor:
    """A norm, with gradient.

    Args:
        norm: any kind.
        x: [N, C, H, W].
        relu: apply a ReLU at the end.

    Returns:
        [N, C, H, W]: by the kernel channels-last and in the type of x; else as PyTorch's norm gives it, to the bit.
    """
    if is_by_kernel(norm, x):
        from detector.fast.group_norm_kernel import group_norm

        assert isinstance(norm, nn.GroupNorm)
        return group_norm(x, norm.weight, norm.bias, norm.num_groups, norm.eps, relu)
    out: Tensor = norm(x)
    return F.relu_(out) if relu else out


def is_by_kernel(norm: nn.Module, x: Tensor) -> bool:
    """Whether a norm of channels-last maps [N, C, H, W] is one for the kernel, and this device is faster with it."""
    if type(norm) is not nn.GroupNorm or not norm.affine or torch.compiler.is_compiling():
        return False
    if x.dtype not in TYPES or norm.weight.dtype not in TYPES or not fits(x, norm.num_groups):
        return False
    return normalizes_by_kernel(x.device, x.dtype, norm.weight.dtype, gradient=torch.is_grad_enabled())


def fits(x: Tensor, groups: int) -> bool:
    """Whether maps [N, C, H, W] are channels-last, many, and small enough for a program to hold a group of one."""
    count, channels, height, width = x.shape
    values = (1 << (height * width - 1).bit_length()) * (1 << (channels // groups - 1).bit_length())
    return count >= MAPS and values <= VALUES and x.is_contiguous(memory_format=torch.channels_last)
