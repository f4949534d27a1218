"""The command for a GPU: each step ends at its limit, and what is known is written as soon as it is known."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

STEPS = Path(__file__).resolve().parents[2] / ".ci" / "gpu_steps"

WAITS_FOR_A_SIGNAL = """
import time
try:
    print("begun", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("told to stop", flush=True)
"""


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return part("main", monkeypatch)


def part(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """One of the command's files, newly loaded."""
    monkeypatch.syspath_prepend(str(STEPS))
    for other in ("main", "steps", "tests", "cells"):
        monkeypatch.delitem(sys.modules, other, raising=False)
    return importlib.import_module(name)


def run_steps(main: ModuleType, folder: Path, *commands: str, limit: float = 30.0) -> list[dict[str, Any]]:
    """Run Python programs as steps; what results.json holds of each."""
    record = main.Record(folder)
    for number, command in enumerate(commands):
        step = main.Step(f"step {number}", limit, [sys.executable, "-c", command], lambda: {"left": 1})
        main.run_step(step, limit, {"PATH": ""}, record)
    found: list[dict[str, Any]] = json.loads((folder / "results.json").read_text())["steps"]
    return found


def test_steps_that_succeed_and_fail(main: ModuleType, tmp_path: Path) -> None:
    found = run_steps(main, tmp_path, "print('fine')", "print('bad'); raise SystemExit(3)", "print('fine again')")
    assert [step["status"] for step in found] == ["ok", "failed (3)", "ok"]
    assert all(step["results"] == {"left": 1} for step in found)
    log = (tmp_path / "log.txt").read_text()
    assert all(word in log for word in ("fine", "bad", "fine again"))
    assert "== step 1: failed (3)" in (tmp_path / "report.txt").read_text()


def test_a_step_is_told_to_stop_at_its_limit_and_its_output_is_kept(main: ModuleType, tmp_path: Path) -> None:
    (found,) = run_steps(main, tmp_path, WAITS_FOR_A_SIGNAL, limit=6.0)
    assert found["status"] == "stopped at its limit"
    assert found["seconds"] < 20
    assert "begun" in (tmp_path / "log.txt").read_text()
    assert "told to stop" in (tmp_path / "log.txt").read_text()


def test_no_step_begins_when_time_is_over(main: ModuleType, tmp_path: Path) -> None:
    (found,) = run_steps(main, tmp_path, "raise SystemExit(3)", limit=1.0)
    assert found["status"] == "no time left"


def test_every_step_has_a_limit_and_all_fit_into_eight_minutes(main: ModuleType, tmp_path: Path) -> None:
    steps = main.all_steps(main.Plan("cuda", False, tmp_path, tmp_path))
    assert [step.name for step in steps][:4] == ["doctor", "tests", "waits", "kernels"]
    assert sum(step.seconds for step in steps if not step.asked) <= 480
    assert [step.name for step in steps if step.asked] == ["inference of eight", "fpn inference", "fpn training"]
    assert [step.name for step in steps if step.at_most] == ["train to an AP"], "only the last may take what is left"
    assert all("cpu" not in step.command for step in steps)


def test_what_the_tests_found_is_read_from_their_report(main: ModuleType, tmp_path: Path) -> None:
    assert main.all_steps(main.Plan("cuda", False, tmp_path, tmp_path))[1].results() == {"numbers": {}, "others": {}}
    (tmp_path / "numbers.xml").write_text(
        '<testsuites><testsuite tests="2" failures="1" errors="0" skipped="0">'
        '<properties><property name="largest difference" value="0.5"/></properties>'
        '<testcase classname="a" name="good"/>'
        '<testcase classname="a" name="bad"><failure message="why&#10;more"/></testcase></testsuite></testsuites>'
    )
    assert main.all_steps(main.Plan("cuda", False, tmp_path, tmp_path))[1].results()["numbers"] == {
        "counts": {"tests": 2, "failures": 1, "errors": 0, "skipped": 0},
        "failed": {"a::bad": "why"},
        "differences": {"largest difference": "0.5"},
    }


def test_what_is_carried_is_whole_or_refused(shared: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(STEPS / "carry.py"), "--no-wheels", "--output", str(tmp_path / "carried")]
    done = subprocess.run([*command, "--limit", "64"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("data/bccd/annotations/instances_val.json", "fixtures/detectron2/units.npz"):
        assert (tmp_path / "carried" / "shared" / name).read_bytes() == (shared / name).read_bytes()
    refused = subprocess.run([*command, "--limit", "20"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "error: more than 20 MiB" in refused.stderr


def test_wheels_that_go_together_are_installed_where_another_version_is_there(main: ModuleType) -> None:
    from importlib.metadata import version

    assert main.is_installed(Path(f"numpy-{version('numpy')}-cp312-cp312-any.whl"))
    assert not main.is_installed(Path("numpy-1.0-cp312-cp312-any.whl"))
    assert not main.is_installed(Path("no_such_package-1.0-py3-none-any.whl"))


def test_every_file_with_tests_for_a_gpu_is_run(monkeypatch: pytest.MonkeyPatch, project_root: Path) -> None:
    tests = part("tests", monkeypatch)
    marked = re.compile(r"mark\.gpu\b|def test_\w+\([^)]*\b(?:device|cuda): torch\.device")
    named = [project_root / name for name in (*tests.NUMBERS, *tests.OTHERS)]
    assert all(path.exists() for path in named)
    for path in sorted((project_root / "tests").rglob("test_*.py")):
        if path.parent.name == "gpu" or marked.search(path.read_text()):
            assert any(path.is_relative_to(one) for one in named), f"{path} is not among the tests of .ci/gpu"


def test_a_run_of_tests_in_a_line_and_each_failure_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tests = part("tests", monkeypatch)
    counts = {"tests": 5, "failures": 1, "errors": 0, "skipped": 1}
    assert list(tests.summary("numbers", 1, {"counts": counts, "failed": {"a::bad": "why"}})) == [
        "numbers: 3 passed, 1 failed, 1 skipped",
        "  a::bad: why",
    ]
    assert list(tests.summary("others", -9, {})) == ["others: no report (exit code -9)"]


@pytest.mark.parametrize(
    ("moved", "said"),
    [
        ({"AP": 0.002, "AP50": -0.0025}, "should be bfloat16: AP 0.6020 (+0.0020), AP50 0.8775"),
        ({"AP": -0.004, "AP50": 0.0}, "stays float32, since bfloat16 moves it: AP 0.5960 (-0.0040)"),
        ({"AP": 0.0, "AP50": 0.004}, "stays float32, since bfloat16 moves it"),
        (None, "stays float32: not every precision was scored"),
    ],
)
def test_which_precision_should_be_the_default(
    monkeypatch: pytest.MonkeyPatch, moved: dict[str, float] | None, said: str
) -> None:
    scores = {"float32": {"AP": 0.6, "AP50": 0.88}}
    if moved is not None:
        scores["bfloat16"] = {key: scores["float32"][key] + by for key, by in moved.items()}
    assert said in part("cells", monkeypatch).default_precision(scores)


def test_a_model_that_has_learnt_nothing_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    same = {"AP": 0.0001, "AP50": 0.0005}
    said = part("cells", monkeypatch).default_precision({"float32": same, "bfloat16": same})
    assert said == "the default for detection stays float32: AP 0.0001 is too low to show anything"
