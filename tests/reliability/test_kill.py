"""A run that is killed at random moments ends with the bits of one that was not.

As a script, for a longer trial or another config:

    python tests/reliability/test_kill.py --kills 50
    python tests/reliability/test_kill.py --kills 50 --processes 2
    python tests/reliability/test_kill.py --kills 50 --longest 20 --config configs/quickstart.yaml train.save_every=20
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import pytest
from processes import KILL, TERMINATE, Sabotage, finish, screen, start, start_group
from tiny_run import SETTINGS, assert_same_bits, losses, write_dataset

from detector.training.checkpoint import find_damage, list_checkpoints

# Small steps, a checkpoint after every second one, and everything in it that has a state.
OFTEN = ["train.save_every=2", "train.evaluate_every=5", "train.ema_decay=0.9", "train.validation_loss=false"]
# Moments inside the writing of a checkpoint, of a model or of a log: before any of these calls.
CALLS = ("fsync", "rename", "replace", "mkdir")


def kill_until(
    settings: Sequence[str],
    output: Path,
    kills: int,
    seed: int,
    longest: float,
    config: Path | None = None,
    world_size: int = 1,
) -> Counter[str]:
    """Start a run again and again, killing it at random moments, then let it end.

    Args:
        kills: how many at most; fewer where the run comes to its end before.
        longest: seconds after which a start is killed at the latest.
        world_size: processes of the run. One of them is killed, and the others must find that out and end.

    Returns:
        How often a kill came at a random time, at a step, or before which call of the system.
    """
    rng = random.Random(seed)
    moments: Counter[str] = Counter()
    while moments.total() < kills:
        kind = rng.choice(["time", "step", *CALLS])
        victim = rng.randrange(world_size)
        # Only the main process writes.
        victim = victim if kind in ("time", "step") else 0
        sabotage = {} if kind == "time" else {victim: Sabotage(kind, rng.randrange(6), signal=KILL)}
        processes = start_group(settings, output, world_size, sabotage, config)
        if kind == "time":
            processes[victim].join(rng.uniform(0.1, longest))
            processes[victim].kill()
        codes = finish(processes, 600)
        assert codes[victim] in (-signal.SIGKILL, 0), screen(output, victim)
        if codes[victim] == 0:
            break  # it came to its end before its time
        moments[kind] += 1
        for checkpoint in list_checkpoints(output / "checkpoints"):
            assert find_damage(checkpoint) is None
    assert set(finish(start_group(settings, output, world_size, config=config), 3600)) == {0}, screen(output)
    return moments


def compare(straight: Path, interrupted: Path) -> None:
    """Weights, momentum, averages, best model, losses and metrics are the same to the bit."""
    newest = list_checkpoints(straight / "checkpoints")[0].name
    files = [f"checkpoints/{newest}/{file.name}" for file in (straight / "checkpoints" / newest).glob("*.safetensors")]
    for name in ("model_final.safetensors", "model_best.safetensors", *files):
        assert_same_bits(straight / name, interrupted / name)
    assert losses(straight) == losses(interrupted)
    assert (straight / "evaluation/detections.json").read_bytes() == (
        interrupted / "evaluation/detections.json"
    ).read_bytes()


@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_random_moments(tmp_path: Path, kills: int) -> None:
    settings = [*SETTINGS, *write_dataset(tmp_path / "data"), *OFTEN, f"train.iterations={4 * kills}"]
    assert finish([start(settings, tmp_path / "straight")]) == [0], screen(tmp_path / "straight")
    moments = kill_until(settings, tmp_path / "killed", kills, seed=kills, longest=1.0)
    compare(tmp_path / "straight", tmp_path / "killed")
    assert moments.total() > kills // 2


@pytest.mark.parametrize("workers", [0, 2])
def test_asked_to_stop_at_random_moments(tmp_path: Path, workers: int) -> None:
    settings = [*SETTINGS, *write_dataset(tmp_path / "data"), *OFTEN, f"data.num_workers={workers}"]
    assert finish([start(settings, tmp_path / "straight")]) == [0], screen(tmp_path / "straight")
    rng = random.Random(workers)
    codes = []
    for number in (TERMINATE, signal.SIGINT, signal.SIGUSR1):
        process = start(settings, tmp_path / "stopped", Sabotage("step", rng.randrange(1, 4), signal=number))
        began = time.monotonic()
        codes += finish([process])
        assert time.monotonic() - began < 30
    assert codes == [128 + TERMINATE, 128 + signal.SIGINT, 128 + signal.SIGUSR1], screen(tmp_path / "stopped")
    assert finish([start(settings, tmp_path / "stopped")]) == [0]
    compare(tmp_path / "straight", tmp_path / "stopped")
    assert "stopped by SIGUSR1; --resume goes on from iteration" in screen(tmp_path / "stopped")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_that_hangs_keeps_nobody_from_saving_and_leaving(tmp_path: Path) -> None:
    settings = [*SETTINGS, *write_dataset(tmp_path / "data"), "data.num_workers=1", "train.iterations=100000"]
    output = tmp_path / "run"
    process = start([*settings, "train.evaluate_every=0"], output)
    assert process.pid is not None
    while "iteration 5/" not in (screen(output) if output.exists() else ""):
        time.sleep(0.1)
    (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(worker), signal.SIGSTOP)
    time.sleep(1)  # what was prepared before is used up
    began = time.monotonic()
    os.kill(process.pid, TERMINATE)
    while "stopped by SIGTERM; --resume goes on" not in screen(output):
        time.sleep(0.05)
    assert time.monotonic() - began < 3
    assert finish([process], timeout=30) == [128 + TERMINATE]
    assert not Path(f"/proc/{worker}").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_that_is_killed_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    settings = [*SETTINGS, *write_dataset(tmp_path / "data"), "data.num_workers=2", "train.iterations=100000"]
    output = tmp_path / "run"
    process = start([*settings, "train.evaluate_every=0"], output)
    assert process.pid is not None
    while "iteration 5/" not in (screen(output) if output.exists() else ""):
        time.sleep(0.1)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(workers[0]), signal.SIGKILL)
    assert finish([process], timeout=30) == [2]
    assert screen(output).splitlines()[-1].startswith("error: a process of the data loader has died")
    assert "Traceback" not in screen(output)


@pytest.mark.slow
def test_our_own_failure_ends_the_workers_too(tmp_path: Path) -> None:
    settings = [*SETTINGS, *write_dataset(tmp_path / "data"), "data.num_workers=2", "train.iterations=100000"]
    failing = start(settings, tmp_path / "run", Sabotage("step", 3, error=5))
    assert finish([failing], timeout=30) == [1]
    assert "OSError: [Errno 5]" in screen(tmp_path / "run")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--longest", type=float, default=4.0, help="seconds after which a start is killed at the latest"
    )
    parser.add_argument("--config", type=Path, help="a config; without one, a tiny network on rendered rectangles")
    parser.add_argument("settings", nargs="*", metavar="key=value")
    parser.add_argument("--processes", type=int, default=1, help="of the run, over gloo; one of them is killed")
    arguments = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        settings = list(arguments.settings)
        if arguments.config is None:
            settings = [*SETTINGS, *write_dataset(output / "data"), *OFTEN, "train.iterations=100", *settings]
        whole = start_group(settings, output / "straight", arguments.processes, config=arguments.config)
        assert set(finish(whole, 3600)) == {0}, screen(output / "straight")
        moments = kill_until(
            settings,
            output / "killed",
            arguments.kills,
            arguments.seed,
            arguments.longest,
            arguments.config,
            arguments.processes,
        )
        compare(output / "straight", output / "killed")
        print(f"{moments.total()} kills ({dict(moments)}): every tensor and every loss is the same to the bit")


if __name__ == "__main__":
    main()
