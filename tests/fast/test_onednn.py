"""oneDNN's kernels, where the processor has them; where it has not, that it says so (tests/fast/test_choose.py)."""

import copy
import pickle
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from kernels import assert_near, chosen

from detector.fast import onednn
from detector.fast.convolution import Execution
from detector.fast.onednn import PackedMatrix, PackedProducts, PackedWeight, convolution, onednn_fault, product

# Those that networks use here; both where the processor has bfloat16, one on all others that PyTorch has oneDNN for.
EXECUTIONS = [e for e in dict.fromkeys((chosen(torch.float32), chosen(torch.bfloat16))) if e.onednn]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kernels_are_there_where_the_processor_says_so(dtype: torch.dtype) -> None:
    """A PyTorch that loses or renames them is to fail a test, and not to leave the fast execution untested."""
    vectors = torch.backends.cpu.get_cpu_capability()
    if not torch.backends.mkldnn.is_available() or (dtype == torch.bfloat16 and not vectors.startswith("AVX512")):
        assert not (dtype == torch.float32 and vectors.startswith("AVX")), "PyTorch for x86 has oneDNN"
        return
    assert onednn_fault(dtype) is None


@pytest.mark.parametrize("execution", EXECUTIONS, ids=str)
def test_products_are_convolutions_with_one_tap(execution: Execution) -> None:
    dtype = execution.dtype
    x, weight, bias = torch.randn(30, 64).to(dtype), torch.randn(48, 64).to(dtype) / 8, torch.randn(48).to(dtype)
    residual = torch.randn(30, 48).to(dtype)
    exact = F.linear(x.double(), weight.double(), bias.double())
    for layout in (weight, PackedMatrix(weight, 30).packed):
        out = product(x, layout, bias, relu=True)
        assert_near(out, exact.relu(), execution)
        before = residual.clone()
        out = product(x, layout, bias, relu=True, residual=residual)
        expected = (exact + residual.double()).relu()
        assert_near(out, expected, execution)
        assert torch.equal(residual, before)


@pytest.mark.parametrize("execution", EXECUTIONS, ids=str)
def test_packed_weights_can_be_copied_pickled_and_unpacked(execution: Execution) -> None:
    dtype = execution.dtype
    weight = torch.randn(32, 16, 3, 3).to(dtype)
    x = torch.randn(2, 16, 6, 6).to(dtype, memory_format=torch.channels_last)
    packed = PackedWeight(weight, 1, 1, 1, (2, 16, 6, 6))
    assert torch.equal(packed.dense(), weight)
    for other in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        out, expected = (convolution(x, p.packed, None, 1, 1) for p in (other, packed))
        assert torch.equal(out, expected)
    matrix = PackedMatrix(weight.flatten(1), 5)
    assert torch.equal(matrix.dense(), weight.flatten(1))
    rows = torch.randn(5, 144).to(dtype)
    for copied in (copy.deepcopy(matrix), pickle.loads(pickle.dumps(matrix))):
        assert torch.equal(product(rows, copied.packed, None), product(rows, matrix.packed, None))


def test_a_fault_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "float64" in str(onednn_fault(torch.float64))
    with monkeypatch.context() as broken:
        broken.setattr(onednn, "PackedWeight", Mock())
        zeros = lambda _x, _weight, _bias, stride, *_, **__: torch.zeros(2, 32, 6 // stride, 6 // stride)  # noqa: E731
        broken.setattr(onednn, "convolution", zeros)
        assert "wrong" in str(onednn_fault(torch.float32))

    def missing(*_: object) -> None:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_convolution_pointwise'\nmore")

    with monkeypatch.context() as broken:
        broken.setattr(onednn, "_results", missing)
        assert str(onednn_fault(torch.float32)).endswith("'_convolution_pointwise'")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert "without oneDNN" in str(onednn_fault(torch.float32))


@pytest.mark.parametrize("execution", EXECUTIONS, ids=str)
def test_groups_are_products_of_pairs(execution: Execution) -> None:
    filters, bias = torch.randn(3, 5, 16).to(execution.dtype) / 4, torch.randn(3, 5)
    x = torch.randn(7, 3, 16).to(execution.dtype)
    products = PackedProducts(filters, bias, 7)
    assert (products.groups, products.rows) == (3, 7)
    expected = torch.einsum("rgc,goc->rgo", x.double(), filters.double()) + bias.double()
    assert_near(products(x), expected, execution)
