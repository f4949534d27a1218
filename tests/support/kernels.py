"""The kernels that this processor's networks run by, and how a test sees which of them ran."""

from functools import cache
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from detector.fast import choose
from detector.fast.choose import choose_execution
from detector.fast.convolution import Execution
from detector.fast.onednn import PackedProducts
from detector.fast.products import PlainProducts

CPU = torch.device("cpu")

# Every kernel in float64, by PyTorch's public parts: the same on every processor, and exact enough to see any mistake.
EXACT = Execution(torch.float64, onednn=False, winograd=True)


def chosen(dtype: torch.dtype) -> Execution:
    """How networks of this type run here, but for what a clock decides; with every kernel by public parts where
    nothing else is there."""
    execution = choose_execution(dtype, CPU, timed=False)
    return execution if execution.winograd else Execution(execution.dtype, execution.onednn, winograd=True)


def executions() -> list[Execution]:
    """Each different way of this processor, and the exact one."""
    return list(dict.fromkeys((EXACT, chosen(torch.float32), chosen(torch.bfloat16))))


def assert_near(out: Tensor, exact: Tensor, execution: Execution) -> None:
    """That a convolution, whose outputs have a scale of about 1, is the float64 result but for the type's rounding."""
    assert out.dtype == execution.dtype
    if execution.dtype == torch.bfloat16:
        assert float((out.double() - exact).norm() / exact.norm()) < 0.02
        return
    tolerance = 1e-11 if execution.dtype == torch.float64 else 2e-5
    torch.testing.assert_close(out.double(), exact, rtol=0, atol=tolerance)


def forget_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test look at the processor anew, and no other see what it has seen."""
    for name in ("has_kernels", "has_products", "log_choice"):
        monkeypatch.setattr(choose, name, cache(getattr(choose, name).__wrapped__))


def count_products(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Is called whenever points are multiplied."""
    spy = Mock()
    for kind in (PackedProducts, PlainProducts):
        call = kind.__call__

        def counted(self: PackedProducts | PlainProducts, x: Tensor, call: object = call) -> Tensor:
            spy()
            return call(self, x)  # type: ignore[operator]

        monkeypatch.setattr(kind, "__call__", counted)
    return spy
