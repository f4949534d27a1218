"""oneDNN's kernels, which a test may need."""

import pytest


def need(*faults: str | None) -> None:
    """Skip the test where a kernel is missing; where kernels are there and wrong, it is to fail."""
    for fault in faults:
        if fault is not None and "wrong" in fault:
            pytest.fail(fault)
        if fault is not None:
            pytest.skip(f"not on this machine: {fault}")
