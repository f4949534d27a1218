"""Training runs in processes of their own that start in milliseconds, and ways to ruin them."""

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from detector import command
from detector.config import load_config
from detector.training import engine
from detector.training.signals import exit_code

# A server that has imported everything and done nothing forks each run: no second is lost on importing torch.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["detector.training.engine"])

Step = Callable[..., Any]


@dataclass(frozen=True)
class Sabotage:
    """What goes wrong in a run.

    function: of the module `os`, whose call number `call` (from 0) is where it happens; or `step`, for a step of this
    process; or `loss`, for a step whose loss is then not a number. signal: to send to the process itself at that
    moment. error: or the OSError to raise there instead, for this call and the `more` that follow.
    """

    function: str
    call: int
    signal: int = 0
    error: int = 0
    more: int = 0


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


def finish(processes: Sequence[BaseProcess], timeout: float = 120) -> list[int]:
    """Wait for the end of all and return their exit codes (negative: the signal). One that hangs is an error."""
    try:
        for process in processes:
            process.join(timeout)
            if process.is_alive():
                raise AssertionError(f"process {process.pid} hangs")
    finally:
        for process in processes:
            process.kill()
    return [process.exitcode if process.exitcode is not None else 0 for process in processes]


def screen(output: Path, rank: int = 0) -> str:
    """What a run's processes, over all starts, have written to the screen."""
    return _screen_path(output, rank).read_text()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


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
    os.environ["OMP_NUM_THREADS"] = "1"
    # A child of the server would start its own workers from another server.
    multiprocessing.set_start_method("fork", force=True)
    if world_size > 1:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world_size),
            "LOCAL_WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }

    def main() -> int:
        with _sabotaged(sabotage):
            outcome = engine.train(load_config(config, settings), output, resume=True, device="cpu")
        return exit_code(outcome.stopped_by) if outcome.stopped_by else 0

    command.run(main)


@contextmanager
def _sabotaged(sabotage: Sabotage | None) -> Iterator[None]:
    if sabotage is None:
        yield
        return
    of_engine = sabotage.function in ("step", "loss")
    owner: Any = engine if of_engine else os
    name = "forward_backward" if of_engine else sabotage.function
    real = getattr(owner, name)
    setattr(owner, name, _ruined(real, sabotage))
    try:
        yield
    finally:
        setattr(owner, name, real)


def _ruined(real: Step, sabotage: Sabotage) -> Step:
    calls = -1

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if sabotage.call <= calls <= sabotage.call + sabotage.more:
            if sabotage.error:
                raise OSError(sabotage.error, os.strerror(sabotage.error))
            if sabotage.signal:
                os.kill(os.getpid(), sabotage.signal)
            if sabotage.function == "loss":
                return [found | {"rpn_box": found["rpn_box"] * float("nan")} for found in real(*args, **kwargs)]
        return real(*args, **kwargs)

    return stand_in


KILL, TERMINATE = signal.SIGKILL, signal.SIGTERM
