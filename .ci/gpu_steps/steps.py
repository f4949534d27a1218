"""What is run on a GPU, in order of value, each part with its limit, its command and what is kept of its results."""

import json
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Plan:
    """How to run.

    device: `cuda`, or `pretended` (tests and waits on a device that is only pretended, all else on the CPU).
    quick: small problems, whose numbers mean nothing. work: a folder for the steps' own files. shared: the carried
    data.
    """

    device: str
    quick: bool
    work: Path
    shared: Path

    @property
    def real(self) -> str:
        """The device of what cannot be pretended."""
        return "cuda" if self.device == "cuda" else "cpu"


@dataclass(frozen=True)
class Step:
    """One part.

    seconds: its limit. at_most: its limit where steps before it have left time. results: what it left, for
    results.json; files: of its own, to be kept. asked: run only where `--only` names it.
    """

    name: str
    seconds: float
    command: list[str]
    results: Callable[[], dict[str, Any]]
    files: tuple[Path, ...] = ()
    at_most: float | None = None
    asked: bool = False


def all_steps(plan: Plan) -> list[Step]:
    """In order of value: what comes first is worth most where time ends early."""
    waits, kernels, training = plan.work / "waits.json", plan.work / "kernels.json", plan.work / "training"
    reports = (plan.work / "numbers.xml", plan.work / "others.xml")
    return [
        Step("doctor", 20, [sys.executable, "-m", "detector", "doctor", "--device", plan.real], dict),
        Step(
            "tests",
            85,
            [sys.executable, str(HERE / "tests.py"), *map(str, reports)],
            lambda: {report.stem: read_junit(report) for report in reports},
        ),
        Step("waits", 25, script("waits.py", plan, "--output", str(waits)), lambda: read_json(waits)),
        Step("kernels", 25, script("kernels.py", plan, "--output", str(kernels)), lambda: read_json(kernels)),
        benchmark(plan, "inference", 75, "--batch", "1", "--rounds", "5"),
        benchmark(plan, "profile", 20),
        # Of one picture the host's launches are the limit; users train with several.
        benchmark(plan, "training", 75, "--batch", "4", "1", "--rounds", "3"),
        Step(
            "train to an AP",
            155,
            script("cells.py", plan, "--shared", str(plan.shared), "--output", str(training)),
            lambda: read_json(training / "results.json"),
            (training / "run" / "metrics.jsonl",),
            at_most=275,  # three minutes of training, and scoring
        ),
        *(
            replace(step, asked=True)
            for step in (
                benchmark(plan, "inference", 75, "--batch", "8", "--rounds", "3", name="inference of eight"),
                benchmark(plan, "inference", 75, "--batch", "1", "--rounds", "3", kind="fpn", name="fpn inference"),
                benchmark(plan, "training", 75, "--batch", "4", "1", "--rounds", "3", kind="fpn", name="fpn training"),
            )
        ),
    ]


def script(name: str, plan: Plan, *words: str) -> list[str]:
    """One of the scripts beside this one."""
    return [sys.executable, str(HERE / name), "--device", plan.device, *(["--quick"] if plan.quick else []), *words]


def benchmark(plan: Plan, part: str, seconds: float, *words: str, kind: str = "c4", name: str | None = None) -> Step:
    """One part of the benchmark: R101-C4 beside the torchvision-built peer, R50-FPN beside torchvision's own."""
    name = name or part
    folder = plan.work / name.replace(" ", "-")
    command = [sys.executable, "tools/benchmark.py", "--device", plan.real, "--part", part, "--output", str(folder)]
    command += ["--forms", "eager", "bf16-channels-last", "--proposals", "1000", "--memory", "kept"]
    command += ["--kind", kind, "--depth", "101" if kind == "c4" else "50"]
    command += ["--quick", "--batch", "1"] if plan.quick else list(words)
    extra = (folder / "profile.txt",) if part == "profile" else ()
    return Step(name, seconds, command, lambda: {"records": read_lines(folder / "benchmark.jsonl")}, extra)


def read_json(path: Path) -> dict[str, Any]:
    """What a step wrote; nothing where it did not come that far."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def read_lines(path: Path) -> list[Any]:
    """The whole lines of a file of JSON lines."""
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines if line]


def read_junit(path: Path) -> dict[str, Any]:
    """Counts, the names of tests that failed with the first line of why, and properties (largest differences)."""
    if not path.is_file():
        return {}
    suite = next(ElementTree.parse(path).getroot().iter("testsuite"))
    failed = {}
    for case in suite.iter("testcase"):
        for problem in (*case.findall("failure"), *case.findall("error")):
            failed[f"{case.get('classname')}::{case.get('name')}"] = (problem.get("message") or "").split("\n")[0][:300]
    return {
        "counts": {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")},
        "failed": failed,
        "differences": {p.get("name"): p.get("value") for p in suite.iter("property")},
    }
