"""A run that is killed, or asked to stop, at random moments ends with the bits of one that was not.

As a script, for a longer trial or another config:

    python tests/reliability/test_kill.py --times 50
    python tests/reliability/test_kill.py --times 50 --signal SIGTERM --calls 6
    python tests/reliability/test_kill.py --times 50 --processes 2
    python tests/reliability/test_kill.py --times 20 --processes 2 --torchrun --longest 20
    python tests/reliability/test_kill.py --config configs/quickstart.yaml train.iterations=300 train.save_every=4
"""

import argparse
import os
import random
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import pytest
from interruptions import compare, interrupt_until, kill_under_torchrun, send
from processes import children, finish, screen, start, start_group, wait_for
from sabotage import HELD_UP, TERMINATE, Sabotage
from tiny_run import SETTINGS, write_dataset

from detector.config import load_config, save_config

# Small steps, a checkpoint after every second one, and everything in it that has a state; three steps to a logged loss,
# so that some are counted before an interruption and some after it.
OFTEN = [
    "train.save_every=2",
    "train.log_every=3",
    "train.evaluate_every=5",
    "train.ema_decay=0.9",
    "train.validation_loss=false",
]
STEPS = 12  # between two kills at most
ENDLESS = ["train.iterations=100000", "train.evaluate_every=0"]


@pytest.mark.parametrize(("kills", "seed"), [(4, 5), pytest.param(50, 0, marks=pytest.mark.slow)])
def test_killed_at_random_moments(tmp_path: Path, kills: int, seed: int) -> None:
    # A start goes on by STEPS at most before it is killed, whatever the machine is busy with: no kill comes too late.
    settings = [*SETTINGS, *write_dataset(tmp_path / "data"), *OFTEN, f"train.iterations={STEPS * (kills + 1)}"]
    assert finish([start(settings, tmp_path / "straight")]) == [0], screen(tmp_path / "straight")
    moments = interrupt_until(settings, tmp_path / "killed", kills, seed, longest=0.1, calls=STEPS)
    compare(tmp_path / "straight", tmp_path / "killed")
    assert moments.total() == kills
    assert any("inside a checkpoint" in moment for moment in moments)


@pytest.mark.parametrize("workers", [0, 2])
def test_asked_to_stop_at_random_moments(tmp_path: Path, workers: int) -> None:
    settings = [*SETTINGS, *write_dataset(tmp_path / "data"), *OFTEN, f"data.num_workers={workers}"]
    assert finish([start(settings, tmp_path / "straight")]) == [0], screen(tmp_path / "straight")
    rng = random.Random(workers)
    codes, done, expected = [], 0, []
    for number in (TERMINATE, signal.SIGINT, signal.SIGUSR1):
        step = rng.randrange(1, 4)
        codes += finish([start(settings, tmp_path / "stopped", Sabotage("step", step, signal=number))])
        done += step + 1
        expected.append(str(done))
    # It leaves after the very step in which it was asked to; a busy machine has another clock.
    assert re.findall(r"goes on from iteration (\d+)", screen(tmp_path / "stopped")) == expected
    assert codes == [128 + TERMINATE, 128 + signal.SIGINT, 128 + signal.SIGUSR1], screen(tmp_path / "stopped")
    assert finish([start(settings, tmp_path / "stopped")]) == [0]
    compare(tmp_path / "straight", tmp_path / "stopped")
    assert "stopped by SIGUSR1; --resume goes on from iteration" in screen(tmp_path / "stopped")


@pytest.mark.slow
def test_asked_to_stop_at_any_moment(tmp_path: Path) -> None:
    settings = [*SETTINGS, *write_dataset(tmp_path / "data"), *OFTEN, "train.iterations=80"]
    assert finish([start(settings, tmp_path / "straight")]) == [0], screen(tmp_path / "straight")
    moments = interrupt_until(settings, tmp_path / "stopped", 30, seed=0, longest=1.0, number=TERMINATE)
    compare(tmp_path / "straight", tmp_path / "stopped")
    assert moments.total() > 15


@pytest.mark.slow
def test_one_of_two_processes_is_killed_at_random_moments(tmp_path: Path) -> None:
    settings = [*SETTINGS, *write_dataset(tmp_path / "data"), *OFTEN, "train.iterations=40"]
    assert finish(start_group(settings, tmp_path / "straight", 2)) == [0, 0], screen(tmp_path / "straight")
    moments = interrupt_until(settings, tmp_path / "killed", 10, seed=0, longest=2.0, world_size=2)
    compare(tmp_path / "straight", tmp_path / "killed")
    assert moments.total() > 5


def test_asked_to_stop_before_the_first_step_it_leaves_at_once(tmp_path: Path) -> None:
    settings = [*SETTINGS, *write_dataset(tmp_path / "data")]
    process = start(settings, tmp_path / "run", Sabotage("open_data", 0, seconds=300))
    while not (tmp_path / "run/log.txt").exists():
        process.join(0.05)
        assert process.is_alive(), screen(tmp_path / "run")
    process.join(0.5)
    send(TERMINATE, process)
    assert finish([process], timeout=200) == [128 + TERMINATE]
    assert "stopped by SIGTERM before the first step." in screen(tmp_path / "run")


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    settings = [*SETTINGS, *write_dataset(tmp_path / "data"), *ENDLESS]
    process = start(settings, tmp_path / "run", Sabotage("step", 3, seconds=300))
    wait_for(HELD_UP, process, tmp_path / "run")
    for _ in range(100):  # signals of a kind that have not arrived yet are one
        send(signal.SIGINT, process)
        process.join(0.5)
        if not process.is_alive():
            break
    assert finish([process], timeout=0) == [-signal.SIGINT]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_that_hangs_is_named_and_keeps_nobody_from_saving_and_leaving(tmp_path: Path) -> None:
    settings = [*SETTINGS, *write_dataset(tmp_path / "data"), "data.num_workers=1", *ENDLESS]
    output = tmp_path / "run"
    process = start(settings, output)
    assert process.pid is not None
    wait_for("iteration 5/", process, output)
    (worker,) = children(process.pid)
    os.kill(worker, signal.SIGSTOP)
    wait_for(f"{worker} (stopped)", process, output)
    assert "warning: waiting for the pictures of iteration" in screen(output)
    os.kill(process.pid, TERMINATE)
    wait_for("stopped by SIGTERM; --resume goes on", process, output)  # the worker is stopped all the while
    assert finish([process]) == [128 + TERMINATE]
    assert not Path(f"/proc/{worker}").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_that_is_killed_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    settings = [*SETTINGS, *write_dataset(tmp_path / "data"), "data.num_workers=2", *ENDLESS]
    output = tmp_path / "run"
    process = start(settings, output)
    wait_for("iteration 5/", process, output)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    assert finish([process]) == [2]
    assert screen(output).splitlines()[-1].startswith("error: a process of the data loader has died")
    assert "Traceback" not in screen(output)


@pytest.mark.slow
def test_our_own_failure_ends_the_workers_too(tmp_path: Path) -> None:
    settings = [*SETTINGS, *write_dataset(tmp_path / "data"), "data.num_workers=2", *ENDLESS]
    failing = start(settings, tmp_path / "run", Sabotage("step", 3, error=5))
    assert finish([failing]) == [1]
    assert "OSError: [Errno 5]" in screen(tmp_path / "run")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--signal", default="SIGKILL", help="to send (default: SIGKILL)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=4.0, help="seconds after which a start is interrupted")
    parser.add_argument("--calls", type=int, default=30, help="which step or call of the system is the latest moment")
    parser.add_argument("--config", type=Path, help="a config; without one, a tiny network on rendered rectangles")
    parser.add_argument("settings", nargs="*", metavar="key=value")
    parser.add_argument("--processes", type=int, default=1, help="of the run, over gloo; one of them gets the signal")
    parser.add_argument("--torchrun", action="store_true", help="let torchrun start the group again after each kill")
    arguments = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as folder:
        straight, interrupted = Path(folder) / "straight", Path(folder) / "interrupted"
        settings = list(arguments.settings)
        if arguments.config is None:
            settings = [*SETTINGS, *write_dataset(Path(folder) / "data"), *OFTEN, "train.iterations=100", *settings]
        began = time.monotonic()
        whole = start_group(settings, straight, arguments.processes, config=arguments.config)
        assert set(finish(whole, 3600)) == {0}, screen(straight)
        print(f"uninterrupted: {time.monotonic() - began:.0f} s", flush=True)
        if arguments.torchrun:
            config = Path(folder) / "config.yaml"
            save_config(load_config(arguments.config, settings), config)
            words = ["--config", str(config)]
            shown = kill_under_torchrun(
                words, interrupted, arguments.times, arguments.seed, arguments.longest, arguments.processes
            )
            what = f"{shown.count('resuming from')} starts from a checkpoint under torchrun"
        else:
            moments = interrupt_until(
                settings,
                interrupted,
                arguments.times,
                arguments.seed,
                arguments.longest,
                arguments.config,
                arguments.processes,
                signal.Signals[arguments.signal],
                arguments.calls,
            )
            what = f"{moments.total()} times {arguments.signal} ({dict(sorted(moments.items()))})"
        compare(straight, interrupted)
        print(f"{what}: every tensor and every loss is the same to the bit ({time.monotonic() - began:.0f} s)")


if __name__ == "__main__":
    main()
