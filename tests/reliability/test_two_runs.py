"""Two runs in one folder would take each other's checkpoints, so the second is refused."""

import os
import signal
from pathlib import Path

import pytest
from processes import finish, screen, start, start_group, wait_for
from tiny_run import SETTINGS, write_dataset

ENDLESS = ["train.iterations=100000", "train.evaluate_every=0"]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_second_run_is_refused_while_one_lives_and_welcome_once_it_was_killed(tmp_path: Path, processes: int) -> None:
    settings = [*SETTINGS, *write_dataset(tmp_path / "data"), "data.num_workers=1"]
    output = tmp_path / "run"
    first = start_group([*settings, *ENDLESS], output, processes)
    wait_for("iteration 1/", first[0], output)

    second = start_group(settings, output, processes)
    assert finish(second) == [2] * processes
    for rank in range(processes):
        refused = [line for line in screen(output, rank).splitlines() if line.startswith("error: ")]
        assert refused == [
            f"error: {output}: another run is writing into this folder; wait for its end or stop it, or choose another "
            "folder with --output."
        ]
    assert all(process.is_alive() for process in first)

    for process in first:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    assert finish(first) == [-signal.SIGKILL] * processes
    # The loader's processes may outlive it for a moment; the folder is free at once.
    assert finish([start([*settings, "train.iterations=1"], output)]) == [0], screen(output)
