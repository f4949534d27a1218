"""The command for a GPU: each step ends at its limit, and what is known is written as soon as it is known."""

import importlib
import json
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
    monkeypatch.syspath_prepend(str(STEPS))
    for name in ("main", "steps", "carry"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("main")


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
    assert sum(step.seconds for step in steps) <= 480
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
