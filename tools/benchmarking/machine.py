"""What the numbers were measured on."""

import os
import platform
from pathlib import Path

import torch
import torchvision

from benchmarking.tf32 import tf32_in_words
from detector.fast.choose import has_kernels, has_products, this_processor

BUSY = 0.5  # load from which others' work shows in the clock


def describe_machine(device: torch.device) -> list[str]:
    """Sentences on processor, software, kernels and load."""
    lines = [
        f"{_processor()}, {os.cpu_count()} logical processors, {platform.system()} {platform.machine()}; "
        f"Python {platform.python_version()}, PyTorch {torch.__version__}, torchvision {torchvision.__version__}",
        f"PyTorch's kernels use {this_processor()}; ours in float32: {_kernels(torch.float32)}; "
        f"in bfloat16: {_kernels(torch.bfloat16)}",
    ]
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        lines.append(f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB; {tf32_in_words()}")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > BUSY:
        lines.append(f"the machine was busy when this began (load {load:.1f}): trust CPU time before the clock")
    else:
        lines.append(f"the machine was idle when this began (load {load:.1f})")
    return lines


def _kernels(dtype: torch.dtype) -> str:
    """Which kernels our network has on the CPU in this type."""
    if not has_kernels(dtype):
        return "PyTorch's public ones" if dtype == torch.float32 else "none, so it is float32"
    return "oneDNN's, 3×3 convolutions multiplying less" if has_products(dtype) else "oneDNN's, all direct"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in _lines(info) if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []
