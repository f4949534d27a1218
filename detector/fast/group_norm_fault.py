"""Whether our kernel for group norm computes what PyTorch's does on this GPU, tried before it is relied on."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

# Maps, groups, and whether a ReLU follows: of no power of two, and as large as a program takes.
PROBLEMS = (((3, 96, 5, 7), 8, False), ((2, 128, 14, 14), 2, True))
EPS = 1e-5

Norm = Callable[[Tensor, Tensor, Tensor, int, float, bool], Tensor]


def group_norm_fault(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why the kernel cannot be used on this device for maps of this type, or None if it is there and right.

    Results and gradients are compared with those in float64, and may be off by as much as PyTorch's in float32 and by
    the rounding to their type.
    """
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
            for shape, groups, relu in PROBLEMS:
                for name, error, usual, rounding in _errors(shape, groups, relu, device, dtype):
                    if not error <= 2 * usual + 8 * rounding:
                        return f"its {name} are off by {error:.1e}, PyTorch's by {usual:.1e}"
    except Exception as reason:  # without Triton, without a compiler, on a GPU that it does not know
        return f"{type(reason).__name__}: {(str(reason).strip() or 'no reason given').splitlines()[0]}"
    return None


def _errors(
    shape: tuple[int, ...], groups: int, relu: bool, device: torch.device, dtype: torch.dtype
) -> list[tuple[str, float, float, float]]:
    """Of results and gradients: a name, the kernel's error, PyTorch's, and the rounding of what the kernel gives."""
    from detector.fast.group_norm_kernel import group_norm

    generator = torch.Generator().manual_seed(0)
    channels = (shape[1],)
    maps, weight, bias, incoming = (
        (torch.randn(size, generator=generator) + mean).to(device)
        for size, mean in ((shape, 2), (channels, 1), (channels, 0), (shape, 0))
    )
    maps, incoming = (t.to(dtype, memory_format=torch.channels_last) for t in (maps, incoming))
    # Where the ReLU cuts is left out: rounding decides there whether a gradient passes.
    uncut = by_pytorch(maps.double(), weight.double(), bias.double(), groups, EPS, False)
    incoming = incoming * (uncut.abs() > 1e-3)

    def results(norm: Norm, of_maps: torch.dtype, of_weights: torch.dtype) -> list[Tensor]:
        leaves = [t.to(of_weights) for t in (weight, bias)]
        x, factor, offset = (t.detach().requires_grad_() for t in (maps.to(of_maps), *leaves))
        out = norm(x, factor, offset, groups, EPS, relu)
        return [out.detach(), *torch.autograd.grad(out, (x, factor, offset), incoming.to(out.dtype))]

    exact = results(by_pytorch, torch.float64, torch.float64)
    usual = results(by_pytorch, torch.float32, torch.float32)
    computed = results(group_norm, dtype, torch.float32)
    names = ("results", "gradients of maps", "gradients of weights", "gradients of biases")
    return [
        (name, _off(ours, right), _off(theirs, right), torch.finfo(ours.dtype).eps)
        for name, ours, theirs, right in zip(names, computed, usual, exact, strict=True)
    ]


def _off(computed: Tensor, exact: Tensor) -> float:
    """The largest error, relative to the largest value."""
    return float((computed.double() - exact).abs().max() / exact.abs().max())


def by_pytorch(maps: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, relu: bool) -> Tensor:
    """`group_norm_kernel.group_norm` by PyTorch's kernels, in the usual memory order."""
    out = F.group_norm(maps, groups, weight, bias, eps)
    return F.relu_(out) if relu else out
