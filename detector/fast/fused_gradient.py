"""Residual blocks that train on a GPU, each convolution with its bias, addition and ReLU as one kernel of cuDNN's.

How it works: autograd has no gradient for such kernels, so a block is a function with a backward pass of its own. It
keeps what autograd would keep, the maps after each ReLU; where one is 0, no gradient passes. The gradients of the
convolutions are PyTorch's own. Norms are folded into the convolutions before (`fold_together.py`), so biases are fixed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from detector.fast.backbone import convolutions
from detector.fast.fold_together import Folded, Folds
from detector.model.blocks import BasicBlock, Bottleneck, Projection


@dataclass(frozen=True)
class Shape:
    """Stride and padding of a convolution, the same on both axes."""

    stride: int
    padding: int

    @classmethod
    def of(cls, conv: nn.Conv2d) -> "Shape":
        """Those of a convolution module."""
        return cls(conv.stride[0], int(conv.padding[0]))


def run_fused(block: BasicBlock | Bottleneck, x: Tensor, folds: Folds) -> Tensor | None:
    """A residual block, [N, C, H, W] channels-last to [N, C', H', W']; None where it has to run in another way.

    Args:
        block: with fixed norms.
        x: in the type that is computed in.
        folds: of this step; they say whether blocks are fused.
    """
    convs = [conv for conv, _ in convolutions(block)]
    if isinstance(block.shortcut, Projection):
        convs.append(block.shortcut.conv)
    folded = _take(block, convs, x, folds)
    if folded is None:
        return None
    shapes, weights = [Shape.of(conv) for conv in convs], [fold.weight for fold in folded]
    biases = [fold.bias for fold in folded]
    if isinstance(block.shortcut, Projection):
        biases[-2:] = [_together(folded[-2], folded[-1])]
    out: Tensor = _Block.apply(x, None, shapes, biases, *weights)
    return out


def run_rest(block: Bottleneck, reduced: Tensor, residual: Tensor, shift: Folded, folds: Folds) -> Tensor | None:
    """What is left of a bottleneck after its first convolution and its shortcut; None where it has to run otherwise.

    Args:
        block: with fixed norms.
        reduced: [N, C, H, W] channels-last, after the first convolution's ReLU.
        residual: [N, C', H', W'] channels-last, of the shortcut, to which its norm's offset is still to be added.
        shift: has that offset.
        folds: as for `run_fused`.
    """
    convs = [block.conv2, block.conv3]
    folded = _take(block, convs, reduced, folds)
    if folded is None:
        return None
    biases = [folded[0].bias, _together(folded[1], shift)]
    out: Tensor = _Block.apply(
        reduced, residual, [Shape.of(conv) for conv in convs], biases, *(f.weight for f in folded)
    )
    return out


def fused(x: Tensor, weight: Tensor, bias: Tensor, shape: Shape, residual: Tensor | None = None) -> Tensor:
    """Convolution, bias, where given a residual, and ReLU: [N, C, H, W] channels-last to [N, O, H', W'].

    It has no gradient of its own. Elsewhere than on a GPU it is computed step by step, for tests.
    """
    stride, padding = (shape.stride,) * 2, (shape.padding,) * 2
    if x.device.type != "cuda":
        out = F.conv2d(x, weight, bias, stride, padding)
        return F.relu_(out if residual is None else out.add_(residual))
    if residual is None:
        return torch.cudnn_convolution_relu(x, weight, bias, stride, padding, (1, 1), 1)
    return torch.cudnn_convolution_add_relu(x, weight, residual, 1.0, bias, stride, padding, (1, 1), 1)


def _take(
    block: BasicBlock | Bottleneck, convs: Sequence[nn.Conv2d], x: Tensor, folds: Folds
) -> Sequence[Folded] | None:
    """What the convolutions were folded to; None where blocks are not fused, or this one cannot be."""
    plain = isinstance(block.shrink, nn.Identity) and all((c.dilation[0], c.groups) == (1, 1) for c in convs)
    if not plain or x.shape[0] == 0 or not folds.fuses(x.device, x.dtype):
        return None
    return folds.take_all(convs, x.dtype)


def _together(last: Folded, shortcut: Folded) -> Tensor:
    """The offsets of the last convolution's norm and of the shortcut's, which are added to the same map."""
    return (last.offset + shortcut.offset).to(last.bias.dtype)


class _Block(torch.autograd.Function):
    """ReLU(last(… ReLU(first(x)) …) + shortcut), where all but the last convolution are followed by a ReLU.

    The shortcut is the residual that is given, else the last of the weights applied to x if there is one more of them
    than of the biases, else x.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor | None, shapes: list[Shape], biases: list[Tensor], *weights: Tensor
    ) -> Tensor:
        maps = [x]
        for weight, bias, shape in zip(weights[: len(biases) - 1], biases[:-1], shapes, strict=False):
            maps.append(fused(maps[-1], weight, bias, shape))
        last = len(biases) - 1
        if residual is not None:
            shortcut = residual
        elif len(weights) > len(biases):
            shortcut = F.conv2d(x, weights[-1], None, shapes[-1].stride)
        else:
            shortcut = x
        out = fused(maps[-1], weights[last], biases[last], shapes[last], shortcut)
        ctx.save_for_backward(*maps, out, *weights)
        ctx.shapes, ctx.depth = shapes, len(biases)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        maps, weights = ctx.saved_tensors[: ctx.depth + 1], ctx.saved_tensors[ctx.depth + 1 :]
        wants_x, wants_residual, _, _, *wants = ctx.needs_input_grad
        passed = _through_relu(gradients[0].contiguous(memory_format=torch.channels_last), maps[-1])
        of_weights: list[Tensor | None] = [None] * len(weights)
        gradient: Tensor | None = passed
        for i in range(ctx.depth - 1, -1, -1):
            assert gradient is not None
            gradient, of_weights[i] = _of_convolution(
                gradient, maps[i], weights[i], ctx.shapes[i], i > 0 or wants_x, wants[i]
            )
            if i > 0:
                assert gradient is not None
                gradient = _through_relu(gradient, maps[i])
        if len(weights) > ctx.depth:
            of_shortcut, of_weights[-1] = _of_convolution(
                passed, maps[0], weights[-1], ctx.shapes[-1], wants_x, wants[-1]
            )
        else:
            of_shortcut = None if wants_residual else passed
        if gradient is not None and of_shortcut is not None:
            gradient += of_shortcut
        return gradient, passed if wants_residual else None, None, None, *of_weights


def _through_relu(gradient: Tensor, out: Tensor) -> Tensor:
    """The gradient before a ReLU from that after it, `out` being what the ReLU gave."""
    masked: Tensor = torch.ops.aten.threshold_backward(gradient, out, 0)
    return masked


def _of_convolution(
    gradient: Tensor, x: Tensor, weight: Tensor, shape: Shape, wants_x: bool, wants_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of a convolution's input and weight from that of its output; None for what is not wanted."""
    if not (wants_x or wants_weight):
        return None, None
    stride, padding = [shape.stride] * 2, [shape.padding] * 2
    wanted = [wants_x, wants_weight, False]
    of_x, of_weight, _ = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, [1, 1], False, [0, 0], 1, wanted
    )
    return of_x, of_weight
