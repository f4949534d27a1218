"""Fixtures shared by all tests."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # processes side by side: one thread each, decided before torch is imported
    os.environ["OMP_NUM_THREADS"] = "1"

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pretended_gpu import pretended_gpu

from detector.arithmetic import float32_products

if not torch.cuda.is_available():  # where there is no GPU, kernels for one are interpreted on the CPU
    os.environ.setdefault("TRITON_INTERPRET", "1")

PROJECT_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real pictures, annotations and reference outputs; tests that need it skip where there is none."""
    folder = Path(os.environ.get("DETECTOR_SHARED", PROJECT_ROOT.parent / "shared"))
    if not (folder / "fixtures").is_dir():
        pytest.skip(f"no reference data at {folder}; set DETECTOR_SHARED to run this test")
    return folder


@pytest.fixture(scope="session")
def references() -> Path:
    """Reference outputs of detectron2 that travel with the project, with their weights, settings and pictures."""
    return PROJECT_ROOT / "tests" / "reference" / "detectron2"


@pytest.fixture(scope="session")
def project_root() -> Path:
    """Folder of pyproject.toml."""
    return PROJECT_ROOT


@pytest.fixture
def cuda() -> Iterator[torch.device]:
    """A CUDA device whose float32 is float32; where DETECTOR_PRETEND_GPU is set, one that is only pretended."""
    with float32_products("float32"):
        if os.environ.get("DETECTOR_PRETEND_GPU"):
            with pretended_gpu():
                yield torch.device("cuda", 0)
        elif torch.cuda.is_available():
            yield torch.device("cuda", 0)
        else:
            pytest.skip("no CUDA device; DETECTOR_PRETEND_GPU=1 runs these tests on a pretended one")


@pytest.fixture
def real_cuda() -> None:
    """For what cannot be pretended: other processes, memory."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device, and this cannot be pretended")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device in turn: the CPU, and under `-m gpu` the GPU."""
    if request.param == "cpu":
        return torch.device("cpu")
    found: torch.device = request.getfixturevalue("cuda")
    return found
