"""oneDNN's kernels, which a test may need."""

from unittest.mock import Mock

import pytest
from torch import Tensor

from detector.fast.onednn import GroupedProducts


def need(*faults: str | None) -> None:
    """Skip the test where a kernel is missing; where kernels are there and wrong, it is to fail."""
    for fault in faults:
        if fault is not None and "wrong" in fault:
            pytest.fail(fault)
        if fault is not None:
            pytest.skip(f"not on this machine: {fault}")


def count_products(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Is called whenever points are multiplied."""
    spy, call = Mock(), GroupedProducts.__call__

    def counted(self: GroupedProducts, x: Tensor) -> Tensor:
        spy()
        return call(self, x)

    monkeypatch.setattr(GroupedProducts, "__call__", counted)
    return spy
