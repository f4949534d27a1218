"""Kernels of Triton on the CPU, in its interpreter."""

import importlib
from types import ModuleType

import pytest


def kernels(name: str) -> ModuleType:
    """A module of kernels; the tests of the calling module are skipped where these are compiled, or Triton lacks."""
    pytest.importorskip("triton")
    module = importlib.import_module(name)
    functions = [value for key, value in vars(module).items() if key.startswith("_") and hasattr(value, "run")]
    if not functions or any(type(one).__name__ != "InterpretedFunction" for one in functions):
        pytest.skip("Triton compiles for a GPU, and does not interpret", allow_module_level=True)
    return module
