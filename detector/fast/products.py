"""Many matrix products at once, one for each point of a minimal filtering."""

import torch
from torch import Tensor

from detector.fast.onednn import PackedProducts


class PlainProducts:
    """Products of G pairs of matrices, of PyTorch's public parts: any type and any device.

    Args:
        filters: [G, O, C].
        bias: [G, O] or None, to be added to each row.
        rows: of each matrix on the left.
    """

    def __init__(self, filters: Tensor, bias: Tensor | None, rows: int) -> None:
        self.rows = rows
        self.groups = filters.shape[0]
        self.filters = filters.transpose(1, 2)  # [G, C, O]
        self.bias = filters.new_zeros(self.groups, 1, 1) if bias is None else bias.to(filters.dtype)[:, None]

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, G, C] to [rows, G, O]."""
        return torch.baddbmm(self.bias, x.transpose(0, 1), self.filters).transpose(0, 1).contiguous()


Products = PackedProducts | PlainProducts


def grouped_products(filters: Tensor, bias: Tensor | None, rows: int, onednn: bool) -> Products:
    """Products with these filters, [G, O, C] with [G, O] or None as bias, always of `rows` rows.

    onednn: by its kernels, in float32 or bfloat16.
    """
    return (PackedProducts if onednn else PlainProducts)(filters, bias, rows)
