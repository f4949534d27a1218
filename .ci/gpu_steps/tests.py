"""The tests that are marked `gpu`, in two runs beside each other.

Those that compare numbers run in one process, since the differences that they measure are kept by the whole run.
Kernels, commands and runs, which mostly wait for compilers and for processes to start, run in several where
pytest-xdist is installed.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from steps import read_junit

# Every file with tests that are marked `gpu`: to collect all others would take longer than some of the tests.
NUMBERS = ["tests/parity", "tests/gpu/test_network.py", "tests/gpu/test_precision.py"]
OTHERS = [
    "tests/gpu/test_kernels.py",
    "tests/gpu/test_runs.py",
    "tests/commands/test_train.py",
    "tests/datasets/loading/test_loader.py",
]
MOST_PROCESSES = 5  # of the second run


def main() -> int:
    """Run both to their ends; returns the exit code of the first that failed, else 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reports", type=Path, nargs=2, help="JUnit files to write: numbers, and all else")
    args = parser.parse_args()
    with ExitStack() as stack:
        logs = [stack.enter_context(report.with_suffix(".log").open("w+")) for report in args.reports]
        runs = [
            subprocess.Popen(
                [*command(), *words, f"--junitxml={report}"], stdout=log, stderr=subprocess.STDOUT, env=environment()
            )
            for words, report, log in zip((NUMBERS, [*OTHERS, *several()]), args.reports, logs, strict=True)
        ]
        codes = [ended(run) for run in runs]
        for log in logs:
            log.seek(0)
            print(log.read())
    for report, code in zip(args.reports, codes, strict=True):
        print("\n".join(summary(report.stem, code, read_junit(report))))
    return next((code for code in codes if code), 0)


def command() -> list[str]:
    """What both runs begin with. `-v`: where a test hangs, the output says which."""
    words = [sys.executable, "-m", "pytest", "-m", "gpu", "-v", "--durations=10", "--tb=short"]
    return [*words, "-p", "no:cacheprovider", "--continue-on-collection-errors"]


def several() -> list[str]:
    """Words for pytest that make it use several processes, if it can."""
    count = max(1, min(MOST_PROCESSES, (os.cpu_count() or 1) // 3))
    return ["-p", "xdist.plugin", "-n", str(count)] if importlib.util.find_spec("xdist") else []


def environment() -> dict[str, str]:
    """Without the plugins that a machine happens to have: they may warn, and a warning is an error here."""
    return dict(os.environ) | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def ended(run: "subprocess.Popen[bytes]") -> int:
    """Its exit code."""
    try:
        return run.wait()
    except KeyboardInterrupt:  # it was told so too, and writes what it has
        return run.wait()


def summary(name: str, code: int, found: dict[str, Any]) -> Iterator[str]:
    """A run in a line, and each failure in one."""
    if not found:
        yield f"{name}: no report (exit code {code})"
        return
    counts, failed = found["counts"], found["failed"]
    passed = counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
    yield f"{name}: {passed} passed, {len(failed)} failed, {counts['skipped']} skipped"
    yield from (f"  {test}: {reason}" for test, reason in failed.items())


if __name__ == "__main__":
    sys.exit(main())
