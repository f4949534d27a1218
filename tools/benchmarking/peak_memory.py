"""Peak memory of one form, in a process of its own: what running adds to what the built network takes."""

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarking.kept_memory import environment

_TOOLS = str(Path(__file__).resolve().parents[1])
_STATUS = Path("/proc/self/status")
_CLEAR_PEAK = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Memory:
    """MiB. built: of the process (on a GPU: allocated there) when the network is ready. added: at the peak beyond."""

    built: float
    added: float


def in_new_process(program: Sequence[str], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a Python program prints as JSON in its last line, given `arguments` as JSON.

    It gives memory back as the system has it, also where this process does not.

    Args:
        program: as `python` takes it, such as `-m package.module`.

    Raises:
        subprocess.CalledProcessError: it failed; what it had to say is on the screen.
    """
    command = [sys.executable, *program, json.dumps(arguments)]
    variables = environment("returned")
    # This package lies beside the tools, where a script finds it and another process does not.
    variables["PYTHONPATH"] = os.pathsep.join([_TOOLS, *filter(None, [variables.get("PYTHONPATH")])])
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=variables)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def can_measure(device: torch.device) -> bool:
    """Whether a process can learn its peak here: Linux says it, and every GPU."""
    return device.type == "cuda" or _CLEAR_PEAK.exists()


def measure(call: Callable[[], object], device: torch.device) -> Memory:
    """Memory of this process before and during a call."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        built = torch.cuda.memory_allocated(device) / 2**20
        call()
        torch.cuda.synchronize(device)
        return Memory(built, torch.cuda.max_memory_allocated(device) / 2**20 - built)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # what building has freed would be used again, and not be seen as added
        libc.malloc_trim(0)
    built = _of_process("VmRSS")
    _CLEAR_PEAK.write_text("5")  # forget the peak so far
    call()
    return Memory(built, _of_process("VmHWM") - built)


def _of_process(key: str) -> float:
    """MiB."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(key + ":"))
    return int(line.split()[1]) / 1024
