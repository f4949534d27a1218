import copy
import pickle

import pytest
import torch
from kernels import EXACT, assert_near, executions

from detector.fast.convolution import Execution
from detector.fast.onednn import PackedProducts
from detector.fast.products import PlainProducts, grouped_products


@pytest.mark.parametrize("execution", executions(), ids=str)
@pytest.mark.parametrize("with_bias", [False, True])
def test_products_of_pairs(execution: Execution, with_bias: bool) -> None:
    filters = torch.randn(3, 5, 16, dtype=torch.float64) / 4
    bias = torch.randn(3, 5, dtype=torch.float64) if with_bias else None
    x = torch.randn(7, 3, 16, dtype=torch.float64)
    products = grouped_products(filters.to(execution.dtype), bias, 7, execution.onednn)
    assert isinstance(products, PackedProducts if execution.onednn else PlainProducts)
    assert (products.groups, products.rows) == (3, 7)
    expected = torch.einsum("rgc,goc->rgo", x, filters) + (0 if bias is None else bias)
    for same in (products, copy.deepcopy(products), pickle.loads(pickle.dumps(products))):
        out = same(x.to(execution.dtype))
        assert out.is_contiguous()
        assert_near(out, expected, execution)


def test_the_exact_way_is_there_on_every_processor() -> None:
    assert EXACT in executions()
    assert len(executions()) >= 2
