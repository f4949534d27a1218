"""A convolution with bias, the shortcut's addition and the ReLU, in as few passes as the device offers."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.fast import onednn
from detector.fast.onednn import PackedMatrix, PackedWeight


@dataclass(frozen=True)
class Execution:
    """How the fused network computes; `choose.choose_execution` makes one that fits the processor.

    dtype: of weights and activations. onednn: run convolutions through oneDNN's fused kernels. winograd: multiply less
    in 3×3 convolutions, of large maps and of RoIs. timed: where kernels give the same bits, or on a GPU, try which is
    the faster. cudnn: run convolutions with bias, addition and ReLU as one kernel of cuDNN's.
    """

    dtype: torch.dtype
    onednn: bool
    winograd: bool = False
    timed: bool = False
    cudnn: bool = False

    @property
    def precision(self) -> torch.dtype:
        """The type of what bfloat16 would spoil at no gain: pooling weights, biases of pooled values, scores, boxes."""
        return torch.promote_types(self.dtype, torch.float32)

    def channels_last(self, x: Tensor) -> Tensor:
        """[N, C, H, W] in this type and in the memory order N, H, W, C."""
        return x.to(self.dtype, memory_format=torch.channels_last)


@dataclass(frozen=True)
class RoIMaps:
    """Square maps, one for each RoI. count: that usually come together. size: rows and columns."""

    count: int
    size: int

    def after(self, stride: int) -> "RoIMaps":
        """The maps that a convolution with 1×1 taps, or with 3×3 and a padding of 1, makes of them."""
        return RoIMaps(self.count, -(-self.size // stride))


class FusedConv(nn.Module):
    """Convolution, bias, and where wanted a residual and a ReLU, of maps of any size.

    Args:
        weight: [O, C / groups, k, k], any float type.
        bias: [O] or None.
        stride, padding: of the convolution, both axes.
        relu: apply a ReLU at the end.
        execution: type and kernels.
        dilation, groups: of the convolution.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        stride: int,
        padding: int,
        relu: bool,
        execution: Execution,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        weight = weight.detach().to(execution.dtype, memory_format=torch.channels_last, copy=True)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", _copied(bias, execution.dtype))
        self.stride = stride
        self.padding = padding
        self.relu = relu
        self.dilation = dilation
        self.groups = groups
        self.onednn = execution.onednn
        self.cudnn = execution.cudnn and relu and bias is not None and (dilation, groups) == (1, 1)
        self.is_pointwise = is_pointwise(weight, stride, padding) and groups == 1

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """[N, C, H, W] to [N, O, H', W'], channels-last; the residual, of the same size, may be overwritten."""
        if self.cudnn and x.shape[0] > 0:
            return self._by_cudnn(x, residual)
        if not self.onednn:
            out = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
            if residual is not None:
                out += residual
            return out.relu_() if self.relu else out
        if not self.is_pointwise:
            shape = (self.groups, self.dilation)
            return onednn.convolution(x, self.weight, self.bias, self.stride, self.padding, self.relu, residual, *shape)
        column = None if residual is None else in_one_column(residual)
        return as_maps(onednn.convolution(in_one_column(x), self.weight, self.bias, 1, 0, self.relu, column), x)

    def _by_cudnn(self, x: Tensor, residual: Tensor | None) -> Tensor:
        both_axes = (self.stride,) * 2, (self.padding,) * 2, (1, 1)
        if residual is None:
            return torch.cudnn_convolution_relu(x, self.weight, self.bias, *both_axes, 1)
        return torch.cudnn_convolution_add_relu(x, self.weight, residual, 1.0, self.bias, *both_axes, 1)


class PackedConv(nn.Module):
    """`FusedConv` for RoIs' maps through oneDNN: nearly all come in chunks of one size, for which the weight is packed.

    Only the packed weight is kept; for a chunk of another size, such as a picture's last, it is unpacked.

    Args:
        weight, bias, stride, padding, relu, execution: as of `FusedConv`; oneDNN's kernels are needed.
        maps: the usual chunk.
        as_product: compute a 1×1 convolution as a matrix product.
    """

    bias: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        stride: int,
        padding: int,
        relu: bool,
        execution: Execution,
        maps: RoIMaps,
        as_product: bool = False,
    ) -> None:
        super().__init__()
        self.register_buffer("bias", _copied(bias, execution.dtype))
        self.stride = stride
        self.padding = padding
        self.relu = relu
        self.is_pointwise = is_pointwise(weight, stride, padding)
        weight = weight.detach().to(execution.dtype)
        rows = maps.count * maps.size**2
        self.packed: PackedWeight | PackedMatrix
        if as_product:
            assert self.is_pointwise
            self.packed = PackedMatrix(weight.flatten(1), rows)
        else:
            count, height, width = (1, rows, 1) if self.is_pointwise else (maps.count, maps.size, maps.size)
            self.packed = PackedWeight(weight, stride, padding, 1, (count, weight.shape[1], height, width))

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """[N, C, H, W] to [N, O, H', W'], both channels-last; the residual may be overwritten."""
        if not self.is_pointwise:
            return self._convolve(x, residual)
        column = None if residual is None else in_one_column(residual)
        run = self._multiply if isinstance(self.packed, PackedMatrix) else self._convolve
        return as_maps(run(in_one_column(x), column), x)

    def _convolve(self, x: Tensor, residual: Tensor | None) -> Tensor:
        assert isinstance(self.packed, PackedWeight)
        weight = self.packed.packed if x.shape == self.packed.size else self.packed.dense()
        return onednn.convolution(x, weight, self.bias, self.stride, self.padding, self.relu, residual)

    def _multiply(self, x: Tensor, residual: Tensor | None) -> Tensor:
        assert isinstance(self.packed, PackedMatrix)
        rows, other = (None if t is None else t.permute(0, 2, 3, 1).flatten(0, 2) for t in (x, residual))
        assert rows is not None
        weight = self.packed.packed if rows.shape[0] == self.packed.rows else self.packed.dense()
        return onednn.product(rows, weight, self.bias, self.relu, other)[None, :, None].permute(0, 3, 1, 2)


def _copied(bias: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if bias is None else bias.detach().to(dtype, copy=True)


def is_pointwise(weight: Tensor, stride: int, padding: int) -> bool:
    """Whether a convolution, weight [O, C, k, k], maps each cell to one cell: 1×1, stride 1, no padding."""
    return weight.shape[2:] == (1, 1) and (stride, padding) == (1, 0)


def in_one_column(x: Tensor) -> Tensor:
    """[N, C, H, W] channels-last as one map of N·H·W rows, in which oneDNN finds better blocks; no copy."""
    return x.permute(0, 2, 3, 1).reshape(1, -1, 1, x.shape[1]).permute(0, 3, 1, 2)


def as_maps(column: Tensor, like: Tensor) -> Tensor:
    """What `in_one_column` made, [1, O, N·H·W, 1], as [N, O, H, W] with the sizes of `like`; no copy."""
    count, _, rows, columns = like.shape
    return column.permute(0, 2, 3, 1).view(count, rows, columns, -1).permute(0, 3, 1, 2)
