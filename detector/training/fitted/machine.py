"""What a recipe may ask of the machine that it is fitted on."""

import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import torch

from detector.device import choose_device
from detector.download import address, is_offline
from detector.errors import UserError
from detector.weights.published.cache import cached_path
from detector.weights.published.catalogue import PUBLISHED

_PATIENCE = 3.0  # seconds for a server to answer


@dataclass(frozen=True)
class Machine:
    """is_gpu: it has a device that is not the processor. free_bytes: of its memory, None where nobody says.

    reachable: published names whose weights are cached or can be fetched, of those that a recipe would take.
    """

    is_gpu: bool
    free_bytes: int | None
    reachable: tuple[str, ...]
    processors: int


def look_at_machine(device: str, names: tuple[str, ...]) -> Machine:
    """The machine that a run would have. Asks a server whether it is there, for at most three seconds a name."""
    chosen = choose_device(device)
    is_gpu = chosen.type != "cpu"
    free = torch.cuda.mem_get_info(chosen)[0] if chosen.type == "cuda" else _free_memory()
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(is_gpu, free, tuple(name for name in names if is_reachable(name)), processors)


def is_reachable(name: str) -> bool:
    """Whether the weights of a published name are in the cache folder, or their server answers."""
    published = PUBLISHED[name]
    if cached_path(name, published).is_file():
        return True
    if is_offline():
        return False
    try:
        request = urllib.request.Request(address(published.url), method="HEAD")
        with urllib.request.urlopen(request, timeout=_PATIENCE) as response:
            return bool(response.status == 200)
    except (OSError, ValueError, UserError):
        return False


def _free_memory() -> int | None:
    """Bytes that the system can still give, or the control group that this runs in."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):  # "max": no limit
        return free
    return min(free, max(0, limit - used))
