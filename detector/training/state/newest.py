"""The newest whole checkpoint of a run, which a resumed run goes on from, and the old ones, which are deleted."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from detector.disk import remove_folder
from detector.training.state.checkpoint import PROGRESS, CheckpointError, TrainingState, load_checkpoint
from detector.training.state.checkpoint_names import checkpoint_name, iteration_of, list_checkpoints


def load_newest(folder: Path, warn: Callable[[str], None]) -> tuple[Path, TrainingState] | None:
    """The newest checkpoint that is whole, or None. Every damaged one on the way is reported and set aside.

    Setting aside renames it to `damaged_iteration_NNNNNNN`, so that it neither counts among the kept ones nor stands in
    the way when the run comes to that iteration again.
    """
    _restore_names(folder, warn)
    for path in list_checkpoints(folder):
        try:
            return path, load_checkpoint(path)
        except CheckpointError as error:
            warn(f"{error} It is left out, and the one before it taken.")
            _set_aside(path, warn)
    return None


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints, and what killed processes left half-written.

    Raises:
        CheckpointError: one could not be deleted.
    """
    assert keep >= 1
    try:
        for path in list_checkpoints(folder)[keep:]:
            remove_folder(path)
        for path in folder.glob(".iteration_*"):
            shutil.rmtree(path)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot delete an old checkpoint ({error.strerror or error}).") from None


def _restore_names(folder: Path, warn: Callable[[str], None]) -> None:
    """Give checkpoints that somebody has renamed the names of the iterations that they hold, and say it.

    One with too high a number would be taken for the newest for ever. Where the right name is taken it is set aside.
    """
    for path in list_checkpoints(folder):
        try:
            iteration = json.loads((path / PROGRESS).read_text(encoding="utf-8"))["progress"]["iteration"]
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            continue  # damaged, which is seen when it is its turn
        if not isinstance(iteration, int) or isinstance(iteration, bool) or iteration == iteration_of(path):
            continue
        right = path.with_name(checkpoint_name(iteration))
        if right.exists():
            warn(f"{path}: its content is of iteration {iteration}, which {right.name} has too; it is left out.")
            _set_aside(path, warn)
            continue
        warn(f"{path}: its content is of iteration {iteration}, so it gets its name {right.name} back.")
        try:
            os.rename(path, right)
        except OSError as error:
            warn(f"{path}: cannot rename the checkpoint ({error.strerror or error}).")


def _set_aside(path: Path, warn: Callable[[str], None]) -> None:
    aside = path.with_name(f"damaged_{path.name}")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(path, aside)
    except OSError as error:
        warn(f"{path}: cannot rename the checkpoint ({error.strerror or error}).")
