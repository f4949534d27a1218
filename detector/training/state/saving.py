"""When a checkpoint cannot be written: the run goes on, and ends only if that happens again and again."""

from pathlib import Path

import torch
from torch import Tensor

from detector import process_group
from detector.training.nonfinite import TrainingDivergedError
from detector.training.report.logs import RunLog
from detector.training.state.checkpoint import CheckpointError, TrainingState, save_checkpoint
from detector.training.state.newest import prune

MAX_FAILURES = 3


class CheckpointWriter:
    """Saves from the main process, keeps the newest `keep`, and counts failures.

    Args:
        folder: of the checkpoints.
        keep: how many to keep.
        iteration: of the newest one that is there; 0: none.
    """

    def __init__(self, folder: Path, keep: int, iteration: int, log: RunLog) -> None:
        self.folder = folder
        self.saved_iteration = iteration
        self._keep = keep
        self._log = log
        self._failures = 0

    def save(self, state: TrainingState) -> None:
        """Write a checkpoint. All processes must call this; only the main one's `state` is used.

        Raises:
            TrainingDivergedError: the weights are not finite; nothing is written.
            CheckpointError: MAX_FAILURES saves in a row have failed.
        """
        problem: str | None = None
        poisoned: str | None = None
        if process_group.is_main():
            poisoned = first_non_finite(state.model | {f"momentum of {k}": v for k, v in state.momentum.items()})
            problem = None if poisoned else self._try_to_save(state)
        problem, poisoned = process_group.from_main((problem, poisoned))
        iteration = state.progress.iteration
        if poisoned:
            raise TrainingDivergedError(
                f"{poisoned} is not finite at iteration {iteration}, which is not saved; lower train.learning_rate or "
                f"set train.clip_gradient_norm, and --resume from iteration {self.saved_iteration}."
            )
        if problem is None:
            self.saved_iteration = iteration
            self._failures = 0
            return
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            raise CheckpointError(
                f"{problem} That was the {self._failures}rd failure in a row; make room and --resume from iteration "
                f"{self.saved_iteration}."
            )
        self._log.warning(
            f"{problem} Training goes on; the newest checkpoint is that of iteration {self.saved_iteration}."
        )

    def _try_to_save(self, state: TrainingState) -> str | None:
        """Try to save; returns what went wrong, in words, or None."""
        try:
            save_checkpoint(self.folder, state)
        except CheckpointError as error:
            return str(error)
        try:
            prune(self.folder, self._keep)
        except CheckpointError as error:
            self._log.warning(str(error))
        return None


def first_non_finite(tensors: dict[str, Tensor]) -> str | None:
    """The name of the first tensor, of whatever shape, that holds NaN or infinity; None where all are finite."""
    return next((n for n, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())), None)
