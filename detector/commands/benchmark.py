"""Measure speed and memory: the script tools/benchmark.py of a clone, which the installed package does not have."""

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from detector.errors import UserError

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "benchmark.py"


def run(words: Sequence[str]) -> int:
    """Run the script with these words, as `python tools/benchmark.py` does. Raises UserError where there is none."""
    if not SCRIPT.is_file():
        raise UserError(
            "benchmark runs in a clone of the repository only: its peers and problems are not part of the installed "
            "package. Clone it and run `python tools/benchmark.py` there."
        )
    sys.argv = [str(SCRIPT), *words]
    sys.path.insert(0, str(SCRIPT.parent))
    runpy.run_path(str(SCRIPT), run_name="__main__")
    return 0
