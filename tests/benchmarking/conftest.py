"""A network and its peer, so small that they run in a tenth of a second."""

import pytest
from benchmarking.peer import Pair, build_pair
from benchmarking.sample_pictures import load_picture, variants
from torch import Tensor

SIZE = (96, 128)


@pytest.fixture(scope="session")
def pixels() -> Tensor:
    """[1, 3, H, W] uint8."""
    return variants(load_picture(None, SIZE), 1)


@pytest.fixture(scope="session")
def pair(pixels: Tensor) -> Pair:
    """ResNet-50: the smallest that has bottlenecks. It is not to be changed."""
    return build_pair(pixels[0], SIZE, depth=50, num_classes=10, proposals=20, rois=16)
