"""Losses and speed between two lines of the log."""

import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detector.process_group import gather, mean_over_processes, rank, world_size
from detector.training.report.logs import memory_in_use

GRADIENT_NORM = "gradient_norm"  # what a step's means hold beside its losses
BUSY = 0.3  # share of the time without a processor that is worth a word


class Meter:
    """Collects what `report` averages. Losses stay on the device until then, so that no step waits for them.

    Args:
        device: whose memory is reported.
        iterations: of the whole run, for the time that remains.
    """

    def __init__(self, device: torch.device, iterations: int) -> None:
        self._device = device
        self._iterations = iterations
        self._before = (seconds_queued(), time.monotonic())
        self._sums: dict[str, Tensor]
        self._begin()

    def add(self, losses: dict[str, Tensor], images: int, seconds: float, waited: float) -> None:
        """Count one step.

        Args:
            losses: scalars by name, means over the step's micro-batches in this process, and GRADIENT_NORM; empty for
                a skipped step.
            images: pictures of the step, over all processes.
            seconds, waited: how long the step took, and how much of that it waited for its data.
        """
        for name, loss in losses.items():
            self._sums[name] = self._sums[name] + loss if name in self._sums else loss.clone()
        self._counted += bool(losses)
        self._normed += GRADIENT_NORM in losses
        self._steps += 1
        self._images += images
        self._seconds += seconds
        self._waited += waited

    def report(self, iteration: int, learning_rate: float) -> dict[str, Any]:
        """The numbers since the last report, for metrics.jsonl. All processes must call this.

        The losses and the gradient's norm are means over all processes; null where every step was left out.
        """
        names = sorted(self._sums)
        losses: dict[str, float] = {}
        if names:
            counts = [self._normed if name == GRADIENT_NORM else self._counted for name in names]
            means = mean_over_processes(
                torch.stack([self._sums[n] / count for n, count in zip(names, counts, strict=True)])
            )
            losses = dict(zip(names, means.tolist(), strict=True))
        norm = losses.pop(GRADIENT_NORM, None)
        seconds = max(self._seconds, 1e-9)
        values = {
            "iteration": iteration,
            "loss": sum(losses.values()) if losses else None,
            "losses": losses,
            "gradient_norm": norm,
            "learning_rate": learning_rate,
            "seconds": self._seconds,
            "images_per_second": self._images / seconds,
            "data_wait": self._waited / seconds,
            "memory_bytes": self._memory(),
            "queued": self._queued(),
            "seconds_left": (self._iterations - iteration) * self._seconds / max(self._steps, 1),
        }
        self._begin()
        return values

    def state(self) -> list[dict[str, Any]]:
        """What was added since the last report, of every process: plain numbers. All processes must call this."""
        mine = {
            "sums": {name: total.item() for name, total in self._sums.items()},
            "counted": self._counted,
            "normed": self._normed,
            "steps": self._steps,
            "images": self._images,
            "seconds": self._seconds,
            "waited": self._waited,
        }
        return gather(mine)

    def restore(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on from what `state` returned, so that an interruption does not show in the next report.

        Where there were more or fewer processes then, each goes on from their mean: what is reported is a mean too.
        """
        if not states:
            return
        parts = [states[rank()]] if len(states) == world_size() else states
        state = parts[0]
        sums = {name: sum(part["sums"][name] for part in parts) / len(parts) for name in state["sums"]}
        self._sums = {name: torch.tensor(value, device=self._device) for name, value in sums.items()}
        self._counted, self._steps, self._images = state["counted"], state["steps"], state["images"]
        self._normed = state.get("normed", 0)  # a state of before this was counted has no norm
        self._seconds, self._waited = state["seconds"], state["waited"]

    def _begin(self) -> None:
        self._sums = {}
        self._counted = self._normed = self._steps = self._images = 0
        self._seconds = self._waited = 0.0

    def _queued(self) -> float:
        """Share of the clock since the last report in which this process could have computed and got no processor."""
        (queued, clock), self._before = self._before, (seconds_queued(), time.monotonic())
        return (self._before[0] - queued) / max(self._before[1] - clock, 1e-9)

    def _memory(self) -> int:
        """Bytes in use: the GPU's peak so far, or else what this process holds now."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return memory_in_use()


def seconds_queued() -> float:
    """Seconds that this process's main thread has stood in the queue for a processor, ready to compute.

    Much of it means that other work has the machine. 0 where the system does not say.
    """
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def progress_line(values: dict[str, Any], iterations: int) -> str:
    """One line for people from `Meter.report`."""
    total = "-" if values["loss"] is None else f"{values['loss']:.4f}"
    parts = " ".join(f"{name} {value:.4f}" for name, value in values["losses"].items())
    busy = f"  (waited {values['queued']:.0%} for a processor: the machine is busy)" if values["queued"] > BUSY else ""
    scale = f"  loss scale {values['loss_scale']:,.0f}" if "loss_scale" in values else ""
    left = timedelta(seconds=round(values["seconds_left"]))
    return (
        f"iteration {values['iteration']}/{iterations}  loss {total} ({parts})  lr {values['learning_rate']:.3g}  "
        f"{values['images_per_second']:.1f} images/s  data {values['data_wait']:.0%}  "
        f"{values['memory_bytes'] / 1e9:.1f} GB  {left} left{scale}{busy}"
    )
