"""Which norms run by the kernel for group norm, and that all others are PyTorch's to the bit."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.fast import group_norm
from detector.fast.group_norm import is_by_kernel, normalize

FITTING = (64, 64, 3, 5)


def maps(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Channels-last."""
    made = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return made.to(dtype, memory_format=torch.channels_last)


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 6), nn.BatchNorm2d(6), nn.Identity()], ids=lambda norm: str(norm))
@pytest.mark.parametrize("relu", [False, True])
def test_on_a_cpu_a_norm_is_pytorchs_to_the_bit(norm: nn.Module, relu: bool) -> None:
    x = maps(64, 6, 3, 5)
    expected = F.relu(norm(x)) if relu else norm(x)
    assert torch.equal(normalize(norm, x.clone(), relu), expected)


@pytest.mark.parametrize(
    ("norm", "x", "expected"),
    [
        (nn.GroupNorm(32, 64), maps(*FITTING), True),
        (nn.GroupNorm(32, 64), maps(*FITTING, dtype=torch.bfloat16), True),
        (nn.GroupNorm(32, 64).bfloat16(), maps(*FITTING, dtype=torch.bfloat16), True),
        (nn.GroupNorm(1, 64), maps(64, 64, 14, 14), True),
        (nn.GroupNorm(1, 64), maps(64, 64, 14, 19), False),
        (nn.GroupNorm(1, 65), maps(64, 65, 14, 14), False),
        (nn.GroupNorm(32, 64), maps(63, 64, 3, 5), False),
        (nn.GroupNorm(32, 64), maps(*FITTING).contiguous(), False),
        (nn.GroupNorm(32, 64), maps(*FITTING, dtype=torch.float16), False),
        (nn.GroupNorm(32, 64).double(), maps(*FITTING, dtype=torch.float64), False),
        (nn.GroupNorm(32, 64, affine=False), maps(*FITTING), False),
        (nn.BatchNorm2d(64), maps(*FITTING), False),
    ],
)
def test_the_kernel_gets_what_it_can_compute(
    monkeypatch: pytest.MonkeyPatch, norm: nn.Module, x: Tensor, expected: bool
) -> None:
    monkeypatch.setattr(group_norm, "normalizes_by_kernel", lambda *_given, **_more: True)
    assert is_by_kernel(norm, x) == expected


def test_what_is_measured_is_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(group_norm, "normalizes_by_kernel", lambda *given, **more: asked.append((*given, more)))
    x, norm = maps(*FITTING, dtype=torch.bfloat16), nn.GroupNorm(32, 64)
    assert not is_by_kernel(norm, x)
    with torch.no_grad():
        assert not is_by_kernel(norm, x)
    kinds = (x.device, torch.bfloat16, torch.float32)
    assert asked == [(*kinds, {"gradient": True}), (*kinds, {"gradient": False})]
