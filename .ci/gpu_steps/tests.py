"""The tests that are marked `gpu`, in two runs beside each other.

Those that compare numbers run in one process, since the differences that they measure are kept by the whole run.
Commands and runs, which mostly wait for processes to start, run in several where pytest-xdist is installed.
"""

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

NUMBERS = ["tests/parity", "tests/gpu/test_network.py", "tests/gpu/test_precision.py"]


def main() -> int:
    """Run both to their ends; returns the exit code of the first that failed, else 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reports", type=Path, nargs=2, help="JUnit files to write: numbers, and all else")
    args = parser.parse_args()
    base = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    others = ["tests", *(f"--ignore={path}" for path in NUMBERS)]
    if importlib.util.find_spec("xdist"):
        others += ["-n", "5"]
    runs = [
        subprocess.Popen([*base, *words, f"--junitxml={report}"])
        for words, report in zip((NUMBERS, others), args.reports, strict=True)
    ]
    codes = []
    for run in runs:
        try:
            codes.append(run.wait())
        except KeyboardInterrupt:  # they were told so too, and write what they have
            codes.append(run.wait())
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main())
