"""A pretended GPU for tests that run on every machine."""

from collections.abc import Iterator

import pytest
import torch
from pretended_gpu import PretendedGPU, pretended_gpu


@pytest.fixture
def gpu() -> Iterator[PretendedGPU]:
    """What is done to the device that is pretended during the test."""
    if torch.version.cuda is None:
        pytest.skip("this PyTorch was built without CUDA: its kernels cannot be looked up")
    with pretended_gpu() as watched:
        yield watched
