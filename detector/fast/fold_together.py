"""Fixed norms folded into all convolutions of a stage at once, for training on a GPU, where every small kernel costs.

How it works: convolution by convolution, folding takes seven kernels, and in bfloat16 four more that round; the whole
of it is a third of a step's launches. Here the norms' factors and offsets are worked out in one row for all channels of
all norms, and the convolutions of a stage are multiplied, and rounded, by operators on lists. The numbers are the same
to the bit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from detector.fast.backbone import convolutions
from detector.model import resnet
from detector.model.blocks import BasicBlock, Bottleneck, FrozenBatchNorm2d, Projection

Pair = tuple[nn.Conv2d, nn.Module]


@dataclass(frozen=True)
class Folded:
    """A convolution with its norm.

    weight: [O, C, k, k], bias: [O], in the type that is computed in. offset: the bias in the norm's own type. version:
    of the convolution's weight when it was folded; a later one means that the weight has changed since.
    """

    weight: Tensor
    bias: Tensor
    offset: Tensor
    version: int


class Folds:
    """The convolutions of one forward pass with their norms folded in: made together, then taken one by one.

    Each is taken once. A convolution that `take` does not have is folded where it runs.

    Args:
        stages: the convolutions of each stage with their norms; only frozen norms are folded here.
        fuses: whether residual blocks, on this device and in this type, run as one function each
            (`fused_gradient.py`).
    """

    def __init__(
        self, stages: Sequence[Sequence[Pair]], fuses: Callable[[torch.device, torch.dtype], bool] = lambda *_: False
    ) -> None:
        chosen = [[(conv, norm) for conv, norm in stage if isinstance(norm, FrozenBatchNorm2d)] for stage in stages]
        self._stages = [stage for stage in chosen if stage]
        self._ready: dict[nn.Conv2d, Folded] = {}
        self.fuses = fuses

    def prepare(self) -> None:
        """Fold all convolutions as they are now."""
        self._ready = fold_stages(self._stages)

    def take(self, conv: nn.Conv2d) -> Folded | None:
        """What `prepare` made of a convolution; None where it was taken before or is out of date."""
        folded = self._ready.pop(conv, None)
        return folded if folded is not None and _is_current(folded, conv) else None

    def take_all(self, convs: Sequence[nn.Conv2d], dtype: torch.dtype) -> list[Folded] | None:
        """As `take` of each; None, and nothing is taken, unless all of them are there, in this type."""
        folded = [self._ready.get(conv) for conv in convs]
        ready = [fold for fold in folded if fold is not None and fold.weight.dtype == dtype]
        if len(ready) < len(folded) or not all(map(_is_current, ready, convs)):
            return None
        for conv in convs:
            del self._ready[conv]
        return ready


def _is_current(folded: Folded, conv: nn.Conv2d) -> bool:
    """Whether what was folded is still the convolution's weight, and has the gradient that is wanted."""
    wants_gradient = torch.is_grad_enabled() and conv.weight.requires_grad
    return folded.version == conv.weight._version and (folded.weight.requires_grad or not wants_gradient)


def stages_of(model: nn.Module) -> list[list[Pair]]:
    """The convolutions of a ResNet's stages, wherever in a network they are, with their norms."""
    opening = [(m.conv1, m.norm1) for m in model.modules() if isinstance(m, resnet.ResNetC4 | resnet.ResNetC5)]
    stages: list[list[Pair]] = [[pair] for pair in opening]
    for stage in model.modules():
        blocks = [block for block in stage.children() if isinstance(block, BasicBlock | Bottleneck)]
        shortcuts = [block.shortcut for block in blocks if isinstance(block.shortcut, Projection)]
        pairs = [pair for block in blocks for pair in convolutions(block)]
        stages.append([*pairs, *((shortcut.conv, shortcut.norm) for shortcut in shortcuts)])
    return stages


def fold_stages(stages: Sequence[Sequence[tuple[nn.Conv2d, FrozenBatchNorm2d]]]) -> dict[nn.Conv2d, Folded]:
    """Each convolution's weight times its norm's factors, and the norm's offsets.

    A stage is one operator to autograd, so that its gradients do not wait for those of the stages before it.
    """
    if not stages:
        return {}
    convs, norms = zip(*(pair for stage in stages for pair in stage), strict=True)
    weight, device = convs[0].weight, convs[0].weight.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    scales, offsets, biases = _affine(norms, dtype)
    folded: list[Tensor] = []
    for stage in stages:
        here = scales[len(folded) : len(folded) + len(stage)]
        folded += _Fold.apply(here, dtype, *(conv.weight for conv, _ in stage))
    return {
        conv: Folded(weight, bias, offset, conv.weight._version)
        for conv, weight, bias, offset in zip(convs, folded, biases, offsets, strict=True)
    }


@torch.no_grad()
def _affine(
    norms: Sequence[FrozenBatchNorm2d], dtype: torch.dtype
) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    """Of each norm of O channels the factors [O, 1, 1, 1], the offsets [O], and these rounded."""
    variances = torch._foreach_add([norm.running_var for norm in norms], [norm.eps for norm in norms])
    scales = torch.cat([norm.weight for norm in norms]) / torch.cat(variances).sqrt_()
    offsets = torch.cat([norm.bias for norm in norms]) - torch.cat([norm.running_mean for norm in norms]) * scales
    sizes = [len(variance) for variance in variances]
    factors, exact, narrow = (torch.split(t, sizes) for t in (scales.view(-1, 1, 1, 1), offsets, offsets.to(dtype)))
    return factors, exact, narrow


def rounded(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Copies in another type; the same tensors where it is theirs."""
    if all(t.dtype == dtype for t in tensors):
        return list(tensors)
    copies = [torch.empty_like(t, dtype=dtype) for t in tensors]
    torch._foreach_copy_(copies, list(tensors))
    return copies


class _Fold(torch.autograd.Function):
    """Weights [O, C, k, k] times scales [O, 1, 1, 1], rounded."""

    @staticmethod
    def forward(ctx: Any, scales: Sequence[Tensor], dtype: torch.dtype, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.scales = scales
        ctx.set_materialize_grads(False)
        return tuple(rounded(torch._foreach_mul(weights, tuple(scales)), dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        wanted = {i: g for i, g in enumerate(gradients) if g is not None and ctx.needs_input_grad[i + 2]}
        of_weights: list[Tensor | None] = [None] * len(gradients)
        if wanted:
            # In the wider type of the two, that of the scales.
            products = torch._foreach_mul(list(wanted.values()), [ctx.scales[i] for i in wanted])
            for i, product in zip(wanted, products, strict=True):
                of_weights[i] = product
        return None, None, *of_weights
