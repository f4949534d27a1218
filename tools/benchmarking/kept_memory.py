"""Whether the C library keeps the memory that a network frees, or gives it back to the system.

Given back, it costs page faults to get it again: seconds of a picture on some machines and next to none on others, for
whichever network frees the most. So two networks are compared with memory kept, and beside it as the system has it.
What decides is in the environment when a process starts, so it is started anew.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from typing import Literal

Memory = Literal["kept", "returned"]

# To glibc: no separate mappings for what is large, nothing given back below 100 GB, and 64 MiB more than is asked for.
KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "67108864"}


def can_keep() -> bool:
    """Whether the C library is one that can be told: glibc."""
    return platform.libc_ver()[0] == "glibc"


def memory_here() -> Memory:
    """Which of the two this process has."""
    return "kept" if all(os.environ.get(name) == value for name, value in KEEP.items()) else "returned"


def environment(memory: Memory) -> dict[str, str]:
    """This process's environment, changed for another that has this memory."""
    others = {name: value for name, value in os.environ.items() if name not in KEEP}
    return others | (KEEP if memory == "kept" else {})


def start_anew(script: str, arguments: Sequence[str], memory: Memory) -> int:
    """Run a Python script with this memory, its output on the screen; returns its exit code."""
    return subprocess.run([sys.executable, script, *arguments], env=environment(memory), check=False).returncode
