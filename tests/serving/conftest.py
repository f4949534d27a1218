"""The server's libraries are an extra of the package."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def installed() -> None:
    """Skip all tests of this folder where it is not installed."""
    for name in ("fastapi", "uvicorn", "python_multipart"):
        pytest.importorskip(name, reason=f"serving needs {name}: pip install 'faster-rcnn[serve]'")
