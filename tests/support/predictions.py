"""Commands in processes of their own that start in milliseconds, alone or as torchrun would start them."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from processes import CONTEXT, finish, free_port, join_group
from sabotage import Sabotage, sabotaged

from detector import command
from detector.commands.main import main


def predict_in_processes(
    words: Sequence[str | Path],
    screens: Path,
    world_size: int = 1,
    sabotage: dict[int, Sabotage] | None = None,
    prepare: Callable[[], object] | None = None,
    name: str = "predict",
) -> list[int]:
    """Run `predict`, or the command of another name, to its end.

    Args:
        words: of the command line; paths are absolute.
        screens: a folder for what each process writes to its screen, `<rank>.txt`.
        world_size: processes that share the work out.
        sabotage: by rank, what goes wrong.
        prepare: called in each process first; it can be pickled.

    Returns:
        The exit codes by rank (negative: the signal).
    """
    screens.mkdir(parents=True, exist_ok=True)
    port, saboteurs = free_port(), sabotage or {}
    processes = []
    for rank in range(world_size):
        arguments = (
            [name, *map(str, words)],
            screens / f"{rank}.txt",
            saboteurs.get(rank),
            prepare,
            rank,
            world_size,
            port,
        )
        processes.append(CONTEXT.Process(target=_predict, args=arguments))
        processes[-1].start()
    return finish(processes)


def _predict(
    words: list[str],
    screen: Path,
    sabotage: Sabotage | None,
    prepare: Callable[[], object] | None,
    rank: int,
    world_size: int,
    port: int,
) -> None:
    sys.stdout = sys.stderr = open(screen, "a", buffering=1)  # noqa: SIM115 (open until the process ends)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))  # the same sums on any machine
    join_group(rank, world_size, port)
    if prepare is not None:
        prepare()

    def run() -> int:
        with sabotaged(sabotage):
            return main(words)

    command.run(run)
