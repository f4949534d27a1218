"""The parts of a ResNet: norms, convolutions, residual blocks (ResNet paper, figure 5; ResNeXt paper, figure 3)."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NormKind = Literal["frozen_batch", "batch", "group"]
NORM_EPS = 1e-5
GROUPS = 32  # GroupNorm paper, §4.1


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation with fixed statistics and a fixed affine map: y = (x − mean) / √(var + ε) · weight + bias.

    All four are buffers: an ImageNet-trained network is fine-tuned with them as constants. The ResNet paper does so to
    save memory (appendix A); besides, the few pictures of a detection batch would estimate them badly. A fresh one is
    the identity.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = NORM_EPS) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels) - eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [N, C, H, W], channel by channel."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def make_norm(kind: NormKind, channels: int, eps: float = NORM_EPS) -> nn.Module:
    """The normalisation layer after a convolution of `channels` outputs."""
    if kind == "frozen_batch":
        return FrozenBatchNorm2d(channels, eps)
    if kind == "batch":
        return nn.BatchNorm2d(channels, eps=eps)
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels, eps=eps)


def make_conv(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A convolution without bias (the norm after it has one), padded to keep the size at stride 1, He-initialised."""
    padding = dilation * (kernel_size // 2)
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


class Projection(nn.Module):
    """Shortcut where the width or the stride changes: a 1×1 convolution and its norm (ResNet paper §3.3, option B)."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, norm: NormKind, norm_eps: float = NORM_EPS
    ) -> None:
        super().__init__()
        self.conv = make_conv(in_channels, out_channels, 1, stride)
        self.norm = make_norm(norm, out_channels, norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Project [N, C, H, W] to [N, C', H/stride, W/stride], rounded up."""
        return self.norm(self.conv(x))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut, for ResNet-18 and 34 (ResNet paper, figure 5 left).

    Args:
        in_channels: of its input.
        width: channels of both convolutions, and of its output.
        stride: of the first convolution and of the shortcut.
        norm, norm_eps: after each convolution.
        dilation: of both convolutions.
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        norm: NormKind,
        norm_eps: float = NORM_EPS,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.conv1 = make_conv(in_channels, width, 3, stride, dilation)
        self.norm1 = make_norm(norm, width, norm_eps)
        self.conv2 = make_conv(width, width, 3, dilation=dilation)
        self.norm2 = make_norm(norm, width, norm_eps)
        self.shrink: nn.Module = nn.Identity()  # a Shrinkage, where the network has them
        self.shortcut = make_shortcut(in_channels, width, stride, norm, norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H/stride, W/stride], rounded up."""
        out = F.relu(self.norm1(self.conv1(x)))
        out = self.shrink(self.norm2(self.conv2(out)))
        return F.relu(out + self.shortcut(x))


class Bottleneck(nn.Module):
    """1×1 reduce, 3×3, 1×1 expand and a shortcut, for ResNet-50 and deeper (ResNet paper, figure 5 right).

    Args:
        in_channels: of its input.
        width: a quarter of its output's channels.
        stride, stride_in_1x1: of the block, and which convolution has it.
        norm, norm_eps: after each convolution.
        dilation: of the 3×3 convolution.
        groups: of the 3×3 convolution (ResNeXt paper, figure 3c).
        inner: channels of the 3×3 convolution; None: `width`.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        norm: NormKind,
        stride_in_1x1: bool,
        norm_eps: float = NORM_EPS,
        dilation: int = 1,
        groups: int = 1,
        inner: int | None = None,
    ) -> None:
        super().__init__()
        out_channels = self.expansion * width
        inner = inner or width
        self.conv1 = make_conv(in_channels, inner, 1, stride if stride_in_1x1 else 1)
        self.norm1 = make_norm(norm, inner, norm_eps)
        self.conv2 = make_conv(inner, inner, 3, 1 if stride_in_1x1 else stride, dilation, groups)
        self.norm2 = make_norm(norm, inner, norm_eps)
        self.conv3 = make_conv(inner, out_channels, 1)
        self.norm3 = make_norm(norm, out_channels, norm_eps)
        self.shrink: nn.Module = nn.Identity()  # a Shrinkage, where the network has them
        self.shortcut = make_shortcut(in_channels, out_channels, stride, norm, norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H/stride, W/stride], rounded up."""
        out = F.relu(self.norm1(self.conv1(x)))
        out = F.relu(self.norm2(self.conv2(out)))
        out = self.shrink(self.norm3(self.conv3(out)))
        return F.relu(out + self.shortcut(x))


def make_shortcut(in_channels: int, out_channels: int, stride: int, norm: NormKind, norm_eps: float) -> nn.Module:
    """Identity where the shapes agree, else a projection."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return Projection(in_channels, out_channels, stride, norm, norm_eps)
