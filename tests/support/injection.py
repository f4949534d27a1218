"""Code that every Python of a command runs at its start, to ruin a real one of the tools."""

import os
from pathlib import Path


def inject(folder: Path, code: str) -> dict[str, str]:
    """Write the code into a new folder; the environment with which a Python imports it before anything else."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
