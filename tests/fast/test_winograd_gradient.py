import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from everywhere import train_by_winograd
from torch import Tensor

from detector.fast import winograd_gradient
from detector.fast.choose import training_tiles_pay
from detector.fast.winograd_gradient import conv2d


def both(
    x: Tensor, weight: Tensor, bias: Tensor | None, grad: Tensor, pays: bool
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Result and gradients, by `conv2d` and by PyTorch."""
    inputs = [t.requires_grad_() for t in (x, weight, bias) if t is not None]
    found, expected = conv2d(x, weight, bias, 1, 1), F.conv2d(x, weight, bias, padding=1)
    assert ("Winograd" in type(found.grad_fn).__name__) == pays
    found, expected = found.mul_(2), expected.mul_(2)  # the network goes on in place (a ReLU has a kink, though)
    return (
        (found, *torch.autograd.grad(found, inputs, grad)),
        (expected, *torch.autograd.grad(expected, inputs, grad)),
    )


@pytest.mark.parametrize("size", [(2, 9, 13), (37, 7, 7), (1, 4, 4), (1, 53, 48)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_values_and_gradients(size: tuple[int, int, int], with_bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    train_by_winograd(monkeypatch)
    n, h, w = size
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-4)):
        x = torch.randn(n, 20, h, w, dtype=dtype).contiguous(memory_format=torch.channels_last)
        weight, bias = torch.randn(24, 20, 3, 3, dtype=dtype) / 13, torch.randn(24, dtype=dtype) if with_bias else None
        grad = torch.randn(n, 24, h, w, dtype=dtype)
        for f, e in zip(*both(x, weight, bias, grad, True), strict=True):
            scale = float(e.detach().abs().max())
            torch.testing.assert_close(f, e, rtol=0, atol=tolerance * scale)


def test_only_what_is_asked_for_has_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    train_by_winograd(monkeypatch)
    x, weight = torch.randn(1, 8, 8, 8), torch.randn(8, 8, 3, 3, requires_grad=True)
    conv2d(x, weight, None, 1, 1).sum().backward()
    assert weight.grad is not None
    assert x.grad is None


@pytest.mark.parametrize(
    ("shape", "channels", "stride", "pays"),
    [
        ((1, 256, 50, 76), 256, 1, True),
        ((128, 512, 7, 7), 512, 1, True),
        ((16, 512, 7, 7), 512, 1, False),  # too few to pay for the weights
        ((1, 256, 50, 76), 128, 1, False),
        ((1, 256, 50, 76), 256, 2, False),
    ],
)
def test_where_it_pays(shape: tuple[int, ...], channels: int, stride: int, pays: bool) -> None:
    x, weight = torch.empty(shape), torch.empty(channels, shape[1], 3, 3)
    assert training_tiles_pay(x, weight, stride, 1) == pays
    assert not training_tiles_pay(x, weight[:, :, :1, :1], stride, 0)
    assert not training_tiles_pay(x.bfloat16(), weight.bfloat16(), stride, 1)
    assert not training_tiles_pay(x.to("meta"), weight.to("meta"), stride, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert not training_tiles_pay(x, weight, stride, 1)


def test_without_onednn_it_is_computed_by_public_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd_gradient, "has_kernels", lambda _: False)
    x, weight = torch.randn(1, 256, 50, 76), torch.randn(256, 256, 3, 3) / 48
    for f, e in zip(*both(x, weight, None, torch.randn(1, 256, 50, 76), True), strict=True):
        torch.testing.assert_close(f, e, rtol=0, atol=1e-4 * float(e.detach().abs().max()))


def test_the_same_to_the_bit_again() -> None:
    x, weight = torch.randn(96, 256, 7, 7, requires_grad=True), torch.randn(256, 256, 3, 3, requires_grad=True)
    first, second = (torch.autograd.grad(conv2d(x, weight, None, 1, 1).square().sum(), (x, weight)) for _ in range(2))
    assert training_tiles_pay(x, weight, 1, 1)
    assert all(torch.equal(f, s) for f, s in zip(first, second, strict=True))


STRIDED_1X1 = """
import torch
from detector.fast.winograd_gradient import conv2d
torch.manual_seed(0)
for channels in (1, 3, 4, 7, 8, 15, 16):
    for stride, height, width in ((2, 64, 96), (2, 25, 38), (3, 48, 60)):
        x = torch.randn(2, channels, height, width).contiguous(memory_format=torch.channels_last).requires_grad_()
        weight, bias = torch.randn(8, channels, 1, 1, requires_grad=True), torch.randn(8, requires_grad=True)
        exact = [t.detach().double().requires_grad_() for t in (x, weight, bias)]
        out, expected = conv2d(x, weight, bias, stride, 0), torch.nn.functional.conv2d(*exact, stride)
        torch.testing.assert_close(out.double(), expected, rtol=0, atol=1e-5)
        grad = torch.randn_like(out)
        gradients = torch.autograd.grad(out, (x, weight, bias), grad)
        for g, e in zip(gradients, torch.autograd.grad(expected, exact, grad.double()), strict=True):
            torch.testing.assert_close(g.double(), e, rtol=0, atol=1e-5 * float(e.abs().max()))
print("right")
"""


def test_gradients_of_strided_1x1_convolutions_of_few_channels() -> None:
    # In a process of its own: oneDNN's own gradient writes past its memory here, and the process dies.
    child = subprocess.run(
        [sys.executable, "-c", STRIDED_1X1], capture_output=True, text=True, timeout=300, check=False
    )
    assert (child.returncode, child.stdout) == (0, "right\n"), child.stderr
