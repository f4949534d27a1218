"""Run every step under its own limit, and write what is known as soon as it is known.

It leaves few files, since a machine that is lent may bring back but a few: `results.json` (all numbers, rewritten after
each step), `report.txt` (for people), `log.txt` (all output), and what single steps add.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steps import Plan, Step, all_steps

ROOT = Path(__file__).resolve().parents[2]
GRACE = 8  # seconds for a step to write what it has, after it was told to stop
TAIL = 45  # lines of a step's output that the report shows

EXAMPLES = """examples:
  bash .ci/gpu                                   on a GPU: eight minutes at most
  bash .ci/gpu --only tests "fpn inference"      some of the steps
  bash .ci/gpu --device pretended --quick        does the script itself work? (its numbers mean nothing)"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(os.environ.get("OUT", ROOT / "output" / "gpu"))
    parser.add_argument("--output", type=Path, default=default, help="folder ($OUT, else output/gpu)")
    parser.add_argument("--device", choices=("cuda", "pretended"), default="cuda")
    parser.add_argument("--carried", type=Path, default=ROOT / ".gpu", help="what .ci/gpu-carry made (default: .gpu)")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="STEP",
        help="names of steps; 'inference of eight', 'fpn inference' and 'fpn training' run only so",
    )
    parser.add_argument("--seconds", type=float, default=480, help="for all together (%(default)s)")
    parser.add_argument("--patience", type=float, default=1.0, help="factor on every step's limit, for slow machines")
    parser.add_argument("--quick", action="store_true", help="small problems")
    return parser.parse_args()


def main() -> int:
    """Run the steps; returns 0 if all of them succeeded."""
    args = parse_arguments()
    began = time.monotonic()
    args.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="detector-gpu-") as scratch:
        work = Path(scratch)
        record = Record(args.output)
        record.say(f"device {args.device}, Python {platform.python_version()}, carried {args.carried}")
        environment = set_up(args.carried, work / "site", record)
        shared = Path(environment.get("DETECTOR_SHARED", ROOT.parent / "shared"))
        environment |= {"DETECTOR_SHARED": str(shared)}
        if args.device == "pretended":
            environment |= {"DETECTOR_PRETEND_GPU": "1"}
        plan = Plan(args.device, args.quick, work, shared)
        steps = all_steps(plan)
        unknown = set(args.only or ()) - {step.name for step in steps}
        if unknown:
            print(f"error: no step {', '.join(unknown)}; there are {', '.join(s.name for s in steps)}", file=sys.stderr)
            return 2
        for step in steps:
            if step.name not in (args.only or [step.name for step in steps if not step.asked]):
                continue
            left = args.seconds * args.patience - (time.monotonic() - began)
            limit = min((step.at_most or step.seconds) * args.patience, left)
            run_step(step, limit, environment | {"STEP_SECONDS": f"{limit:.0f}"}, record)
    record.say(f"all together {time.monotonic() - began:.0f} s; {record.summary()}")
    return 0 if record.all_well() else 1


class Record:
    """What is known so far, on the screen and in the output folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.content: dict[str, Any] = {"machine": describe_machine(), "steps": []}
        self._report, self._log = folder / "report.txt", folder / "log.txt"
        self._report.write_text("")
        self._log.write_text("")
        self.write()

    def say(self, text: str) -> None:
        """A line of the report."""
        print(text, flush=True)
        with self._report.open("a") as file:
            file.write(text + "\n")

    def log(self, text: str) -> None:
        """Output of a step."""
        with self._log.open("a") as file:
            file.write(text)

    def add(self, step: dict[str, Any]) -> None:
        """The outcome of a step."""
        self.content["steps"].append(step)
        self.write()

    def write(self) -> None:
        """Replace results.json as a whole."""
        temporary = self.folder / "results.json.new"
        temporary.write_text(json.dumps(self.content, indent=1))
        temporary.replace(self.folder / "results.json")

    def summary(self) -> str:
        """How every step ended."""
        return ", ".join(f"{step['name']} {step['status']}" for step in self.content["steps"])

    def all_well(self) -> bool:
        """Whether every step succeeded."""
        return all(step["status"] == "ok" for step in self.content["steps"])


def describe_machine() -> dict[str, str]:
    """Python, processor, and what nvidia-smi says of the card."""
    found = {"python": platform.python_version(), "machine": platform.platform(), "cpus": str(os.cpu_count())}
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        found["gpu"] = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return found


def set_up(carried: Path, site: Path, record: Record) -> dict[str, str]:
    """Install the carried wheels into a folder of their own; the environment in which the steps find them."""
    environment = dict(os.environ)
    paths = [str(ROOT), str(site), *environment.get("PYTHONPATH", "").split(os.pathsep)]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    if (carried / "shared").is_dir():
        environment["DETECTOR_SHARED"] = str((carried / "shared").resolve())
    wheels = sorted((carried / "wheels").glob("*.whl"))
    if not wheels:
        record.say(f"no wheels in {carried}: what is installed has to do")
    lacking = [wheel for wheel in wheels if not is_installed(wheel)]
    if lacking:
        record.say(f"{len(lacking)} of {len(wheels)} wheels {install(lacking, site, record)}")
    return environment


def install(wheels: Sequence[Path], site: Path, record: Record) -> str:
    """Unpack wheels into a folder; how that ended. The steps that need none of them are worth running even so."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--target", str(site), *map(str, wheels)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except subprocess.TimeoutExpired:
        return "NOT installed: pip took more than a minute"
    record.log(done.stdout + done.stderr)
    return "installed" if done.returncode == 0 else f"NOT installed: {done.stderr.strip()[-300:]}"


def is_installed(wheel: Path) -> bool:
    """Whether this very version of it is there already: those that are carried go together."""
    from importlib.metadata import PackageNotFoundError, version

    name, carried, *_ = wheel.name.split("-")
    try:
        return version(name) == carried
    except PackageNotFoundError:
        return False


def run_step(step: Step, limit: float, environment: dict[str, str], record: Record) -> None:
    """Run one step to its end or its limit, and record how it ended and what it left."""
    record.say(f"\n== {step.name} (at most {limit:.0f} s)")
    outcome: dict[str, Any] = {"name": step.name, "limit": limit, "command": step.command}
    if limit < 5:
        record.add(outcome | {"status": "no time left"})
        record.say("no time left")
        return
    began = time.monotonic()
    with (Path(tempfile.gettempdir()) / f"step-{os.getpid()}.log").open("w+") as output:
        code = call(step.command, limit, environment, output)
        output.seek(0)
        text = output.read()
        Path(output.name).unlink()
    seconds = time.monotonic() - began
    status = "ok" if code == 0 else "stopped at its limit" if code is None else f"failed ({code})"
    record.log(f"== {step.name}: {status}, {seconds:.0f} s\n{text}\n")
    try:
        results: dict[str, Any] = step.results()
    except (OSError, ValueError) as error:
        results = {"unreadable": str(error)}
    for path in step.files:
        if path.is_file():
            shutil.copyfile(path, record.folder / path.name)
    record.add(outcome | {"status": status, "seconds": round(seconds, 1), "results": results})
    record.say("\n".join(text.rstrip().split("\n")[-TAIL:]))
    record.say(f"== {step.name}: {status}, {seconds:.0f} s")


def call(command: list[str], limit: float, environment: dict[str, str], output: Any) -> int | None:
    """Run a command with all its processes; its exit code, or None where it had to be stopped."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        # A shell that starts us in the background has SIGINT ignored, which our steps would inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        for number in (signal.SIGINT, signal.SIGKILL):  # at the first pytest and training write what they have
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        return None


if __name__ == "__main__":
    sys.exit(main())
