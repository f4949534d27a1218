"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

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
