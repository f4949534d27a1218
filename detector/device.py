"""Choosing the device that a tool runs on."""

import torch

from detector.errors import UserError


def choose_device(name: str = "auto") -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:N` or `mps` into a device that is there.

    `auto` is the best available: CUDA, else Apple's MPS, else the CPU. Raises UserError for a device that is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device {name!r} is unknown; choose auto, cpu, cuda, cuda:N or mps.") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise UserError(f"device {name!r} is not available ({count} CUDA devices found); use --device auto or cpu.")
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise UserError(f"device {name!r} is not available here; use --device auto or cpu.")
    elif device.type != "cpu":
        raise UserError(f"device {name!r} is not supported; choose auto, cpu, cuda, cuda:N or mps.")
    return device
