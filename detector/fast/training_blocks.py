"""Blocks and convolutions of a network that trains, fast: functions of the parameters as they are now, with gradient.

A fixed batch norm is folded into the convolution before it as the step goes, or beforehand with others of its stage
(`folds`, of this step; `fold_together.py`). `training.py` puts the parts together.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.fast.backbone import convolutions
from detector.fast.fold_together import Folded, Folds
from detector.fast.folding import fixed_affine
from detector.fast.fused_gradient import run_fused
from detector.fast.group_norm import normalize
from detector.fast.winograd_gradient import conv2d
from detector.model import fpn, resnet
from detector.model.blocks import BasicBlock, Bottleneck, Projection


def run_opening(backbone: resnet.ResNetC4 | resnet.ResNetC5, pixels: Tensor, folds: Folds | None = None) -> Tensor:
    """conv1 and the max pooling, [N, 3, H, W] to [N, C, H/4, W/4] channels-last. folds: made here for the step."""
    if folds is not None:
        folds.prepare()
    x = pixels.contiguous(memory_format=torch.channels_last)
    with torch.set_grad_enabled(torch.is_grad_enabled() and backbone.freeze_stages < 1):
        pooled: Tensor = backbone.max_pool(F.relu_(conv_norm(backbone.conv1, backbone.norm1, x, folds)))
        return pooled


def run_stage(stage: nn.Sequential, x: Tensor, frozen: bool, folds: Folds | None = None) -> Tensor:
    """A stage, [N, C, H, W] to [N, C', H', W']; a frozen one keeps nothing for a backward pass."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        for block in stage:
            x = run_block(block, x, folds)
    return x


def run_normed(conv: nn.Module, x: Tensor) -> Tensor:
    """A `detector.model.fpn.NormedConv`: a convolution with a norm or a bias after it, [N, C, H, W] to [N, O, H, W]."""
    assert isinstance(conv, fpn.NormedConv)
    if isinstance(conv.norm, nn.Identity):
        return conv2d(x, conv.conv.weight, conv.conv.bias, 1, int(conv.conv.padding[0]))
    return conv_norm(conv.conv, conv.norm, x)


def run_block(block: nn.Module, x: Tensor, folds: Folds | None = None) -> Tensor:
    """A residual block, [N, C, H, W] to [N, C', H', W']."""
    assert isinstance(block, BasicBlock | Bottleneck)
    fused = None if folds is None else run_fused(block, x, folds)
    if fused is not None:
        return fused
    out = x
    *opening, (last_conv, last_norm) = convolutions(block)
    for conv, norm in opening:
        out = conv_norm(conv, norm, out, folds, relu=True)
    out = block.shrink(conv_norm(last_conv, last_norm, out, folds))
    if isinstance(block.shortcut, Projection):
        out += conv_norm(block.shortcut.conv, block.shortcut.norm, x, folds)
    else:
        out += x
    return F.relu_(out)


def conv_norm(conv: nn.Conv2d, norm: nn.Module, x: Tensor, folds: Folds | None = None, relu: bool = False) -> Tensor:
    """A convolution without bias, its norm, fused where that is fixed, and a ReLU: [N, C, H, W] to [N, O, H', W']."""
    shape = (conv.stride[0], int(conv.padding[0]), conv.dilation[0], conv.groups)
    folded = None if folds is None else folds.take(conv)
    if folded is not None:
        weight, bias = folded.weight, folded.bias
    else:
        affine = fixed_affine(norm)
        if affine is None:
            return normalize(norm, conv2d(x, conv.weight, None, *shape), relu)
        scale, bias = affine
        weight = conv.weight * scale.view(-1, 1, 1, 1)
    out = conv2d(x, weight, bias, *shape)
    return F.relu_(out) if relu else out


def linear(conv: nn.Conv2d, norm: nn.Module, x: Tensor, folded: Folded | None = None) -> Tensor:
    """A 1×1 convolution of [N, C, H, W] at stride 1 with its norm's factors alone: it commutes with RoIAlign."""
    if folded is not None:
        return F.conv2d(x, folded.weight)
    affine = fixed_affine(norm)
    return F.conv2d(x, conv.weight if affine is None else conv.weight * affine[0].view(-1, 1, 1, 1))


def finish(norm: nn.Module, x: Tensor, folded: Folded | None = None, relu: bool = False) -> Tensor:
    """What remains after `linear` and pooling, [R, C, S, S]: the norm's offset, or all of a norm that is not fixed.

    And the ReLU, where one follows.
    """
    if folded is not None:
        offset = folded.offset
    else:
        affine = fixed_affine(norm)
        if affine is None:
            return normalize(norm, x, relu)
        _, offset = affine
    # Not in place: pooled maps are views, and autograd copies the gradient of a changed view whole.
    out = x + offset.view(-1, 1, 1)
    return F.relu_(out) if relu else out
