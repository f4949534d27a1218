"""Runs that are killed or asked to stop again and again, and the comparison with one that was left alone."""

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from processes import SHOW_STACKS, children, finish, screen, start_group
from sabotage import KILL, Sabotage
from tiny_run import assert_same_bits, environment, torchrun_command

from detector.training.state.checkpoint import find_damage
from detector.training.state.checkpoint_names import list_checkpoints

# Moments inside the writing of a checkpoint, of a model or of a log: before any of these calls, or in the middle.
CALLS = ("write", "fsync", "rename", "replace", "mkdir")
MEASURED = {"seconds", "images_per_second", "data_wait", "memory_bytes", "queued", "seconds_left"}
GRACE = 10  # seconds that the others of a group get after one was killed


def interrupt_until(
    settings: Sequence[str],
    output: Path,
    times: int,
    seed: int,
    longest: float,
    config: Path | None = None,
    world_size: int = 1,
    number: int = KILL,
    calls: int = 30,
) -> Counter[str]:
    """Start a run again and again, sending it a signal at random moments, then let it end.

    Args:
        times: how often at most; fewer where the run comes to its end before.
        seed: of the moments.
        longest: seconds after which a start is interrupted at the latest, counted from its first or no line of losses.
        world_size: processes of the run. One of them gets the signal.
        number: of the signal.
        calls: which call of a kind, or which step, may be the moment at the latest; early ones are likelier, so that
            most starts come a little further and few come far.

    Returns:
        How often the signal came at a random time, at a step, or at which call of the system, and how often of these
        with a checkpoint half-written.
    """
    rng = random.Random(seed)
    moments: Counter[str] = Counter()
    while moments.total() < times:
        kind = rng.choice(["time", "step", *CALLS])
        # Only the main process writes.
        victim = rng.randrange(world_size) if kind in ("time", "step") else 0
        sabotage = {} if kind == "time" else {victim: Sabotage(kind, int(calls ** rng.random()) - 1, signal=number)}
        processes = start_group(settings, output, world_size, sabotage, config)
        if kind == "time":
            lines = screen(output, 0).count(" iteration ") + rng.randrange(2)
            while screen(output, 0).count(" iteration ") < lines and processes[victim].is_alive():
                processes[victim].join(0.005)
            processes[victim].join(rng.uniform(0, longest))
            send(number, processes[victim])
        code = end_of(processes, victim)
        if code == 0:
            break  # it came to its end before its time
        # Asked to stop before it could listen, it is ended by the signal as if it were a kill.
        assert code in (-number, 128 + number), screen(output, victim)
        torn = list((output / "checkpoints").glob(f".*.{processes[victim].pid}.*"))
        moments[f"{kind} inside a checkpoint" if torn else kind] += 1
        for checkpoint in list_checkpoints(output / "checkpoints"):
            assert find_damage(checkpoint) is None
    assert set(finish(start_group(settings, output, world_size, config=config), 3600)) == {0}, screen(output)
    return moments


def send(number: int, process: BaseProcess) -> None:
    """A signal to a process, which may have ended."""
    if process.is_alive():
        assert process.pid is not None
        os.kill(process.pid, number)


def end_of(processes: Sequence[BaseProcess], victim: int) -> int:
    """The exit code of the one that was interrupted. The others then have some time to find out, as with torchrun."""
    code = finish([processes[victim]], 600)[0]
    deadline = time.monotonic() + GRACE
    for process in processes:
        process.join(max(0, deadline - time.monotonic()))
        send(SHOW_STACKS, process)
        process.join(1)
        process.kill()
        process.join()
    return code


def compare(straight: Path, interrupted: Path) -> None:
    """Weights, momentum, averages, best model, random states, losses, evaluations: all is the same to the bit."""
    newest = list_checkpoints(straight / "checkpoints")[0].name
    files = [f"checkpoints/{newest}/{file.name}" for file in (straight / "checkpoints" / newest).glob("*.safetensors")]
    for name in ("model_final.safetensors", "model_best.safetensors", *files):
        assert_same_bits(straight / name, interrupted / name)
    assert progress(straight / "checkpoints" / newest) == progress(interrupted / "checkpoints" / newest)
    for folder in (straight, interrupted):
        assert read_evaluated(folder / "checkpoints" / newest) == read_evaluated(straight / "checkpoints" / newest)
    assert numbers(straight) == numbers(interrupted)
    assert (straight / "evaluation/detections.json").read_bytes() == (
        interrupted / "evaluation/detections.json"
    ).read_bytes()


def progress(checkpoint: Path) -> dict[str, Any]:
    """A checkpoint's numbers and random states, without the time it took."""
    stored: dict[str, Any] = json.loads((checkpoint / "progress.json").read_text())
    del stored["progress"]["seconds"]
    return stored


def read_evaluated(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint knows of its own evaluation."""
    evaluated: dict[str, Any] = json.loads((checkpoint / "evaluation.json").read_text())
    return evaluated


def numbers(output: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without what was measured of time and memory."""
    entries = [json.loads(line) for line in (output / "metrics.jsonl").read_text().split("\n") if line]
    return [{name: value for name, value in entry.items() if name not in MEASURED} for entry in entries]


def kill_under_torchrun(
    words: Sequence[str], output: Path, kills: int, seed: int, longest: float, processes: int = 2
) -> str:
    """Let torchrun train, killing a random process of the group at random moments; what it wrote to the screen.

    The run must be long enough for that: two checkpoints a kill or more.

    Args:
        words: of tools/train_net.py.
        kills: torchrun may start the group this often again.
        longest: seconds after which a start is killed at the latest, counted from when its processes are there and
            have written up to three checkpoints.
    """
    rng = random.Random(seed)
    path = output.with_name(f"{output.name}.torchrun.txt")
    with (
        open(path, "w") as screen_file,
        subprocess.Popen(
            torchrun_command(processes, output, *words, restarts=kills),
            stdout=screen_file,
            stderr=subprocess.STDOUT,
            env=environment(TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1"),
        ) as torchrun,
    ):
        try:
            killed: set[int] = set()
            for _ in range(kills):
                group = wait_for_group(torchrun, killed, processes)
                wait_for_checkpoints(torchrun, output / "checkpoints", rng.randrange(4))
                time.sleep(rng.uniform(0, longest))
                assert torchrun.poll() is None, path.read_text()
                os.kill(rng.choice(group), KILL)
                killed |= set(group)
            assert torchrun.wait(3600) == 0, path.read_text()
        finally:
            torchrun.send_signal(signal.SIGTERM)
    return path.read_text()


def wait_for_group(torchrun: "subprocess.Popen[bytes]", former: set[int], processes: int) -> list[int]:
    """The process numbers of a group that torchrun has started anew."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        group = [pid for pid in children(torchrun.pid) if pid not in former]
        if len(group) == processes:
            return group
        assert torchrun.poll() is None, "torchrun has ended"
        time.sleep(0.1)
    raise AssertionError("torchrun did not start the group again")


def wait_for_checkpoints(torchrun: "subprocess.Popen[bytes]", folder: Path, count: int) -> None:
    """Wait for so many new checkpoints, one after another."""
    for _ in range(count):
        seen = list_checkpoints(folder)[:1]
        while list_checkpoints(folder)[:1] == seen:
            assert torchrun.poll() is None, "torchrun has ended"
            time.sleep(0.05)
