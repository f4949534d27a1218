"""Training runs in processes of their own that start in milliseconds."""

import faulthandler
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from sabotage import Sabotage, sabotaged

from detector import command
from detector.config import load_config
from detector.training import engine
from detector.training.process.signals import exit_code

# A server that has imported everything and done nothing forks each run: no second is lost on importing torch.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["detector.training.engine"])

SHOW_STACKS = signal.SIGUSR2  # has a run write to its screen what its threads are doing


def start(
    settings: Sequence[str],
    output: Path,
    sabotage: Sabotage | None = None,
    config: Path | None = None,
    rank: int = 0,
    world_size: int = 1,
    port: int = 0,
) -> BaseProcess:
    """Start, or resume, a run (one process of it). Its screen goes to `<output>.<rank>.txt`."""
    arguments = (list(settings), output, sabotage, config, rank, world_size, port)
    process = CONTEXT.Process(target=_run, args=arguments)
    process.start()
    return process


def start_group(
    settings: Sequence[str],
    output: Path,
    world_size: int,
    sabotage: dict[int, Sabotage] | None = None,
    config: Path | None = None,
) -> list[BaseProcess]:
    """Start a run of several processes as torchrun would, without its supervision."""
    port = free_port()
    saboteurs = sabotage or {}
    return [start(settings, output, saboteurs.get(rank), config, rank, world_size, port) for rank in range(world_size)]


def finish(processes: Sequence[BaseProcess], timeout: float = 600) -> list[int]:
    """Wait for the end of all and return their exit codes (negative: the signal).

    One that hangs is an error, and its screen has the stacks of its threads: they also tell a hang from a machine that
    is busy with other things, on which what takes a second has been seen to take two minutes.
    """
    deadline = time.monotonic() + timeout
    try:
        for process in processes:
            process.join(max(0, deadline - time.monotonic()))
        hanging = [process.pid for process in processes if process.is_alive()]
        for pid in hanging:
            assert pid is not None
            os.kill(pid, SHOW_STACKS)
            time.sleep(1)
        assert not hanging, f"processes {hanging} hang; the screens of the run have their stacks"
    finally:
        for process in processes:
            process.kill()
    return [process.exitcode if process.exitcode is not None else 0 for process in processes]


def wait_for(text: str, process: BaseProcess, output: Path, timeout: float = 600) -> None:
    """Wait until a run has written this to its screen. That it ends before, or never writes it, is an error."""
    deadline = time.monotonic() + timeout
    while text not in screen(output):
        assert process.is_alive(), f"ended without {text!r}: {screen(output)}"
        assert time.monotonic() < deadline, f"no {text!r} in {timeout} s: {screen(output)}"
        time.sleep(0.02)


def screen(output: Path, rank: int = 0) -> str:
    """What a run's processes, over all starts, have written to the screen."""
    path = _screen_path(output, rank)
    return path.read_text() if path.exists() else ""


def children(pid: int | None) -> list[int]:
    """The processes that a process has started and that are still there. Linux only."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def join_group(rank: int, world_size: int, port: int) -> None:
    """Set what torchrun sets for its processes on one machine, where there are several."""
    if world_size > 1:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world_size),
            "LOCAL_WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }


def _screen_path(output: Path, rank: int) -> Path:
    return output.with_name(f"{output.name}.{rank}.txt")


def _run(
    settings: list[str],
    output: Path,
    sabotage: Sabotage | None,
    config: Path | None,
    rank: int,
    world_size: int,
    port: int,
) -> None:
    _screen_path(output, rank).parent.mkdir(parents=True, exist_ok=True)
    screen_file = open(_screen_path(output, rank), "a", buffering=1)  # noqa: SIM115 (open until the process ends)
    sys.stdout = sys.stderr = screen_file
    faulthandler.register(SHOW_STACKS, file=screen_file)
    # One unless asked for more, so that runs side by side compute the same sums on any machine.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    # A child of the server would start its own workers from another server.
    multiprocessing.set_start_method("fork", force=True)
    join_group(rank, world_size, port)

    def main() -> int:
        with sabotaged(sabotage):
            outcome = engine.train(load_config(config, settings), output, resume=True, device="cpu")
        return exit_code(outcome.stopped_by) if outcome.stopped_by else 0

    command.run(main)
