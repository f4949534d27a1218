"""Whether a GPU rounds the factors of float32 products to 10 bits (TF32), as PyTorch lets it for convolutions."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def true_float32() -> Iterator[None]:
    """float32 means float32: results are compared so. Speed is measured as PyTorch is set."""
    settings = (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = settings


def tf32_in_words() -> str:
    """What PyTorch does by its settings."""
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    return f"TF32 is {'on' if convolutions else 'off'} in convolutions and {'on' if products else 'off'} in products"
