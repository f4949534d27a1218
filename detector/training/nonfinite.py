"""Steps whose loss or gradient is not a number: left out, written down, and after too many the run ends.

In float16 gradients may overflow because the loss was scaled up too far; that is a step left out, and no fault.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detector.arithmetic import TrainingPrecision
from detector.datasets.loading.batch import TrainingBatch
from detector.errors import UserError
from detector.process_group import gather
from detector.training.loss_scale import LossScale
from detector.training.losses import Losses
from detector.training.report.logs import RunLog
from detector.training.run.output import NON_FINITE_FILE
from detector.training.state.progress import Progress

MAX_NAMED_GRADIENTS = 10


class TrainingDivergedError(UserError):
    """Losses, gradients or weights have stopped being numbers."""


class RunningStatistics:
    """Batch normalisation's running mean and variance, which a forward pass changes before anyone sees its loss.

    They are copied before every step and put back when the step is left out: one NaN would stay in them for good.
    """

    def __init__(self, model: nn.Module) -> None:
        norms = [m for m in model.modules() if isinstance(m, (nn.BatchNorm2d, nn.SyncBatchNorm))]
        buffers = [buffer for norm in norms for buffer in norm.buffers()]
        # By type, so that each is one operation on a GPU.
        by_type = [[b for b in buffers if b.dtype == dtype] for dtype in {b.dtype for b in buffers}]
        self._live_and_copies = [(live, [b.clone() for b in live]) for live in by_type]

    @torch.no_grad()
    def remember(self) -> None:
        """Copy the statistics as they are now."""
        for live, copies in self._live_and_copies:
            torch._foreach_copy_(copies, live)

    @torch.no_grad()
    def restore(self) -> None:
        """Put the copies back."""
        for live, copies in self._live_and_copies:
            torch._foreach_copy_(live, copies)


def describe_step(
    progress: Progress, batches: Sequence[TrainingBatch], losses: Sequence[Losses], model: nn.Module
) -> dict[str, Any]:
    """What one process saw of a step that is left out, for a line of nonfinite.jsonl.

    Args:
        progress: where the run stands before the step.
        batches, losses: the step's micro-batches and the losses of each, scalars by name.
        model: with the step's gradients.
    """
    return {
        "iteration": progress.iteration + 1,
        "in_a_row": progress.skipped_in_a_row + 1,
        "batches": [
            {
                "image_ids": list(batch.images.image_ids),
                "losses": {name: _readable(float(value)) for name, value in terms.items()},
                "boxes": [target.boxes.tolist() for target in batch.targets],
            }
            for batch, terms in zip(batches, losses, strict=True)
        ],
        "gradients": _non_finite_gradients(model),
    }


def leave_out(
    progress: Progress,
    batches: Sequence[TrainingBatch],
    losses: Sequence[Losses],
    model: nn.Module,
    limit: int,
    output: Path,
    log: RunLog,
    precision: TrainingPrecision = "float32",
) -> None:
    """Count a step that was not taken and write down what every process saw. All processes must call this.

    Args:
        progress: where the run stands before the step; its counts of skipped steps are raised.
        batches, losses, model: as for `describe_step`.
        limit: how many such steps in a row end the run.
        output: folder of `nonfinite.jsonl`.
        precision: of the run; float16's range may be the reason.

    Raises:
        TrainingDivergedError: naming the pictures and the loss terms, after `limit` steps in a row.
    """
    records = gather(describe_step(progress, batches, losses, model))
    progress.skipped_steps += 1
    progress.skipped_in_a_row += 1
    for record in records:
        log.append(output / NON_FINITE_FILE, record)
    what = summarize(records)
    if progress.skipped_in_a_row < limit:
        log.warning(f"iteration {progress.iteration + 1} is left out: {what}.")
        return
    raise TrainingDivergedError(
        f"{progress.skipped_in_a_row} steps in a row were left out, the last at iteration {progress.iteration + 1}, "
        f"because {what}; lower train.learning_rate, set train.clip_gradient_norm, "
        f"{'set train.precision=float32 (float16 ends at 65504), ' if precision == 'float16' else ''}"
        "or look at these pictures' boxes "
        f"({output / NON_FINITE_FILE} has them)."
    )


def leave_out_overflow(
    progress: Progress,
    scale: LossScale,
    batches: Sequence[TrainingBatch],
    losses: Sequence[Losses],
    model: nn.Module,
    output: Path,
    log: RunLog,
) -> None:
    """Count a step that was not taken because float16 could not hold its gradients, and lower the loss scale.

    That happens in every such run, about once in `GROWS_AFTER` steps, and is no fault. All processes must call this.

    Args:
        progress: where the run stands before the step; its count of skipped steps is raised.
        scale: that the step had; it is lowered.
        batches, losses, model: as for `describe_step`.
        output: folder of `nonfinite.jsonl`, which gets the step that ends a run.

    Raises:
        TrainingDivergedError: the gradients overflow without being scaled up.
    """
    before = scale.value
    scale.count_overflow()
    progress.skipped_steps += 1
    if not scale.is_exhausted:
        log.info(
            f"iteration {progress.iteration + 1} is left out, as a few are in float16: its gradients overflowed; the "
            f"loss scale goes from {before:,.0f} to {scale.value:,.0f}."
        )
        return
    records = gather(describe_step(progress, batches, losses, model))
    for record in records:
        log.append(output / NON_FINITE_FILE, record)
    raise TrainingDivergedError(
        f"the gradients overflow float16 however small the loss scale is, the last at iteration "
        f"{progress.iteration + 1}: {summarize(records)}; set train.precision=float32 (or bfloat16, where the GPU has "
        f"it), or lower train.learning_rate, and --resume from the last checkpoint."
    )


def summarize(records: Sequence[dict[str, Any]]) -> str:
    """Sum up, in words, which losses were not finite in which pictures, or else which gradients were not finite."""
    parts = []
    for record in records:
        for batch in record["batches"]:
            bad = [f"{name} = {value}" for name, value in batch["losses"].items() if isinstance(value, str)]
            if bad:
                parts.append(f"{', '.join(bad)} with images {', '.join(map(str, batch['image_ids']))}")
    if parts:
        return "; ".join(parts)
    images = [str(i) for record in records for batch in record["batches"] for i in batch["image_ids"]]
    names = records[0]["gradients"]
    where = f"of {names[0]}" if names else "together"
    return f"the gradients {where} were not finite with images {', '.join(images)}"


def _non_finite_gradients(model: nn.Module) -> list[str]:
    names = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all())
    ]
    return names[:MAX_NAMED_GRADIENTS]


def _readable(value: float) -> float | str:
    """JSON has no NaN: `nan`, `inf` and `-inf` are written as text."""
    return value if math.isfinite(value) else str(value)
