"""How precisely a network computes: float32, TF32 or bfloat16; and float16, in training.

PyTorch's own defaults on an NVIDIA GPU take float32 operands and round them to TF32's 10 bits of mantissa inside of
convolutions, though not inside of matrix products. Here `float32` means 23 bits everywhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from detector.errors import UserError

Precision = Literal["float32", "tf32", "bfloat16"]
AskedPrecision = Literal["auto", "float32", "tf32", "bfloat16"]
TrainingPrecision = Literal["float32", "tf32", "bfloat16", "float16"]  # float16 with a loss scale


def check_precision(precision: TrainingPrecision, device: torch.device) -> None:
    """Raise UserError for TF32 on a device without it: it is a mode of NVIDIA's GPUs."""
    if precision == "tf32" and device.type != "cuda":
        raise UserError(f"precision tf32 exists only on CUDA devices, not on {device}; use float32 or bfloat16.")


def detection_precision(asked: AskedPrecision, device: torch.device, fast: bool = True) -> Precision:
    """How detection computes on a device.

    `auto` is bfloat16 in the fast execution on a GPU that has it, and float32 elsewhere: on an H200 a
    ResNet-50-C4 that was trained on blood cells has AP 0.6149 in bfloat16 and 0.6135 in float32, AP50 0.9046 in both
    (`docs/performance.md`).

    Args:
        asked: what the user wants.
        device: where the network is.
        fast: whether by the fast execution; the network as it is written does not compute in bfloat16.

    Raises:
        UserError: TF32 on a device without it.
    """
    if asked == "auto":
        return "bfloat16" if fast and has_bfloat16(device) else "float32"
    check_precision(asked, device)
    return asked


def has_bfloat16(device: torch.device) -> bool:
    """Whether it is an NVIDIA GPU that computes in bfloat16 itself: Ampere (2020) and later."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def computing_type(precision: Precision) -> torch.dtype:
    """The type of weights and activations; TF32 is float32 outside of products."""
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def autocast(precision: TrainingPrecision, device: torch.device) -> torch.autocast:
    """A context in which a network of float32 weights computes in bfloat16 or float16; void for other precisions."""
    dtype = torch.float16 if precision == "float16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision in ("bfloat16", "float16"))


@contextmanager
def float32_products(precision: TrainingPrecision) -> Iterator[None]:
    """Within this context, products of float32 tensors on a GPU are computed in TF32 only for `tf32`, convolutions too.

    PyTorch keeps this setting for the whole process, so other threads see it too; at the end it is restored.
    """
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32 = products.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before
