"""What a precision means, and that it is left as it was."""

from collections.abc import Iterator

import pytest
import torch

from detector.arithmetic import Precision, check_precision, computing_type, float32_products
from detector.errors import UserError


def settings() -> tuple[bool, bool]:
    """Whether TF32 is allowed, in convolutions and in matrix products."""
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.fixture(params=[(True, False), (False, False), (True, True)])
def before(request: pytest.FixtureRequest) -> Iterator[tuple[bool, bool]]:
    """A process's own settings, PyTorch's defaults first."""
    own = settings()
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = request.param
    yield request.param
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = own


@pytest.mark.parametrize(("precision", "tf32"), [("float32", False), ("bfloat16", False), ("tf32", True)])
def test_float32_means_no_tf32_and_the_process_keeps_its_settings(
    before: tuple[bool, bool], precision: Precision, tf32: bool
) -> None:
    with float32_products(precision):
        assert settings() == (tf32, tf32)
        with float32_products("tf32"):
            assert settings() == (True, True)
        assert settings() == (tf32, tf32)
    assert settings() == before
    with pytest.raises(ZeroDivisionError), float32_products(precision):
        raise ZeroDivisionError
    assert settings() == before


def test_types_and_devices() -> None:
    assert [computing_type(p) for p in ("float32", "tf32", "bfloat16")] == [
        torch.float32,
        torch.float32,
        torch.bfloat16,
    ]
    check_precision("tf32", torch.device("cuda", 1))
    for device in ("cpu", "mps"):
        check_precision("float32", torch.device(device))
        check_precision("bfloat16", torch.device(device))
        with pytest.raises(UserError, match=f"tf32 exists only on CUDA devices, not on {device}"):
            check_precision("tf32", torch.device(device))
