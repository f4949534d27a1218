"""Weights in oneDNN's own layout, which fits one size of input: others are changed into it at each call."""

from typing import Any

import torch
from torch import Tensor


class PackedWeight:
    """Of a convolution.

    Args:
        weight: [O, C, k, k] float32 or bfloat16; in groups, C is of one group.
        stride, padding, groups: of the convolution.
        size: of its input, [N, C, H, W], C of all groups.
    """

    def __init__(self, weight: Tensor, stride: int, padding: int, groups: int, size: tuple[int, int, int, int]) -> None:
        self.stride = stride
        self.padding = padding
        self.groups = groups
        self.size = size
        self.packed = self._pack(weight)

    def _pack(self, weight: Tensor) -> Tensor:
        shape = ([self.padding] * 2, [self.stride] * 2, [1, 1], self.groups, list(self.size))
        weight = weight.contiguous(memory_format=torch.channels_last)
        packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(weight, *shape)
        return packed

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"packed": self.packed.to_dense()}  # the layout cannot be copied, nor pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.packed = self._pack(state["packed"])


class GroupedProducts:
    """Products of G pairs of matrices: all of them are one 1×1 convolution in groups.

    Args:
        filters: [G, O, C].
        bias: [G, O] or None, to be added to each row.
        rows: of each matrix on the left.
    """

    def __init__(self, filters: Tensor, bias: Tensor | None, rows: int) -> None:
        groups, _, channels = filters.shape
        size = (1, groups * channels, rows, 1)
        self.weight = PackedWeight(filters.flatten(0, 1)[:, :, None, None], 1, 0, groups, size)
        self.bias = None if bias is None else bias.flatten().to(filters.dtype)
        self.groups = groups
        self.rows = rows

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, G, C] to [rows, G, O]."""
        x = x.view(1, self.rows, 1, -1).permute(0, 3, 1, 2)
        shape = ([0, 0], [1, 1], [1, 1], self.groups)
        out = torch.ops.mkldnn._convolution_pointwise(x, self.weight.packed, self.bias, *shape, "none", [], None)
        return out.permute(0, 2, 3, 1).view(self.rows, self.groups, -1)
