"""Three processes, of which one goes: what the others say, and that they do so at once."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from processes import CONTEXT, finish, free_port, join_group

from detector import command, process_group
from detector.errors import UserError
from detector.inference.watch import Watch

LONG = 120.0  # seconds of work that nobody finishes
LOST = "error: process {} has lost another process of this run (process 1; its last lines say why, or it was killed, "


def work(rank: int, port: int, fate: str, screens: Path) -> None:
    """A process of three. Process 1 meets its fate; the others are busy, and ask between two pieces of their work."""
    sys.stdout = sys.stderr = open(screens / f"{rank}.txt", "a", buffering=1)  # noqa: SIM115 (open until the end)
    join_group(rank, 3, port)

    def run() -> int:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        process_group.start("cpu")
        try:
            with Watch("Go on.") as watch:
                process_group.barrier()
                if rank == 1:
                    meet(fate)
                end = time.monotonic() + (0 if fate == "none" else LONG)
                while time.monotonic() < end:
                    time.sleep(0.01)
                    # One who is busy for long is stopped by torchrun before it asks.
                    if fate != "killed, and torchrun stops the rest":
                        watch.check()
                    elif watch._gone:
                        os.kill(os.getpid(), signal.SIGTERM)
                assert fate == "none", "nobody has told"
                process_group.barrier()
        finally:
            process_group.stop()
        return 0

    command.run(run)


def meet(fate: str) -> None:
    """End this process."""
    if fate.startswith("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    if fate == "fails":
        raise UserError("no room.")
    if fate == "stopped":
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("fate", "code", "said"),
    [
        ("killed", -signal.SIGKILL, LOST),
        ("killed, and torchrun stops the rest", -signal.SIGKILL, LOST),
        ("fails", 2, LOST),
        ("stopped", 143, "error: process {} has lost another process of this run (process 1, stopped by a signal). Go"),
        ("none", 0, ""),
    ],
)
def test_the_others_leave_with_one_sentence(tmp_path: Path, fate: str, code: int, said: str) -> None:
    port = free_port()
    processes = [CONTEXT.Process(target=work, args=(rank, port, fate, tmp_path)) for rank in range(3)]
    for process in processes:
        process.start()
    codes = finish(processes)
    screens = [(tmp_path / f"{rank}.txt").read_text() for rank in range(3)]
    assert codes == ([0, 0, 0] if fate == "none" else [2, code, 2]), screens
    for rank in (0, 2):
        lines = screens[rank].splitlines()
        assert len(lines) == bool(said)
        assert all(line.startswith(said.format(rank)) for line in lines)
