"""Processes that work together: started from torchrun's environment, and the few values that they exchange.

Every function also works in a single process, where it is the identity; nothing else in the package needs to ask
whether there are others. Inside a process group each process must call the collective ones (all but `rank`,
`world_size` and `is_main`) equally often and in the same order.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from detector.device import choose_device
from detector.errors import UserError, one_line

# Longer than the slowest thing that processes wait for each other: scoring COCO, or rendering the embedded set.
TIMEOUT = timedelta(minutes=30)

# In the messages of gloo and NCCL when the other side is gone or silent.
_LOST = re.compile(
    r"connection (closed|reset|refused)|broken pipe|timed? ?out|socket|remote process exited|gloo.*(read|write)",
    re.IGNORECASE,
)

T = TypeVar("T")


def start(device: str = "auto", timeout: timedelta = TIMEOUT) -> torch.device:
    """Join the process group that torchrun describes, if it does, and choose this process's device.

    Args:
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`. Under torchrun a CUDA device is `cuda:LOCAL_RANK`.
        timeout: how long a process waits for one that is busy; of one that has died it hears at once.

    Raises:
        UserError: the device is not there, or there are more processes than GPUs.
    """
    if "LOCAL_RANK" not in os.environ:
        return choose_device(device)
    chosen = choose_device(device)
    local_rank = int(os.environ["LOCAL_RANK"])
    if chosen.type == "mps":
        raise UserError("several processes cannot share an MPS device; use one process, or --device cpu.")
    if chosen.type == "cuda":
        count = torch.cuda.device_count()
        if local_rank >= count:
            raise UserError(
                f"torchrun started process {local_rank} of this machine, which has {count} GPUs; "
                f"use --nproc-per-node={count} or --device cpu."
            )
        chosen = torch.device("cuda", local_rank)
        torch.cuda.set_device(chosen)
    # Flags and results travel over gloo, on the CPU, so that they never make a GPU wait.
    backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timeout)
    return chosen


def stop() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """This process's number, 0 … world_size − 1."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is process 0, the only one that writes files."""
    return rank() == 0


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor of any shape over all processes, on its device; no gradient flows through it."""
    if world_size() == 1:
        return value.detach()
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


def maximum_over_processes(values: list[int]) -> list[int]:
    """The largest of each number over all processes; with 0 and 1 it says whether any process raised a flag."""
    if world_size() == 1:
        return values
    largest = torch.tensor(values)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return largest.tolist()


def gather(value: Any) -> list[Any]:
    """Collect every process's value, by rank. They are pickled: the processes of a run trust each other."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def from_main(value: Any) -> Any:
    """Give every process the main one's value."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def on_main(function: Callable[[], T]) -> T:
    """Call a function in the main process alone; its result, or its `UserError`, reaches every process."""
    outcome: tuple[Any, UserError | None] = (None, None)
    if is_main():
        try:
            outcome = (function(), None)
        except UserError as error:
            outcome = (None, error)
    value, problem = from_main(outcome)
    if problem is not None:
        raise problem
    return value


def barrier() -> None:
    """Wait until every process has called this."""
    # A collective on the CPU, unlike dist.barrier(), which takes a GPU where there is one.
    maximum_over_processes([0])


@contextmanager
def explain_lost_process(remedy: str = "--resume goes on from the last checkpoint.") -> Iterator[None]:
    """Within this context, turn an exchange that fails because another process died or is silent into a sentence.

    Args:
        remedy: what the sentence ends with.

    Raises:
        UserError: in its place.
    """
    try:
        yield
    except RuntimeError as error:
        if world_size() == 1 or not _LOST.search(str(error)):
            raise
        raise UserError(
            f"process {rank()} has lost another process of this run ({one_line(error)}); its last lines say why. "
            f"{remedy}"
        ) from None


def copy_buffers_from_main(module: nn.Module) -> None:
    """Give every process the main one's buffers: running statistics that each has gathered on its own share."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)
