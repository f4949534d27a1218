"""The folder that a run writes: whose it is, and whether there is room."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from detector.errors import UserError
from detector.training.report.logs import EVENTS_FOLDER, LOG_FILE, METRICS_FILE
from detector.training.state.checkpoint import list_checkpoints

CONFIG_FILE = "config.yaml"
CHECKPOINTS = "checkpoints"
BEST_MODEL, FINAL_MODEL = "model_best.safetensors", "model_final.safetensors"
EVALUATION, SAMPLES = "evaluation", "samples"
NON_FINITE_FILE = "nonfinite.jsonl"

# What --overwrite deletes. Other files in the folder are the user's.
RUN_FILES = (CONFIG_FILE, BEST_MODEL, FINAL_MODEL, LOG_FILE, METRICS_FILE, NON_FINITE_FILE)
RUN_FOLDERS = (CHECKPOINTS, EVALUATION, SAMPLES, EVENTS_FOLDER)


def claim(output: Path, resume: bool, overwrite: bool) -> None:
    """Make the run's folder, empty of an earlier run unless that is to be resumed.

    Raises:
        UserError: there is a run already and neither `resume` nor `overwrite` is set, or the folder cannot be written.
    """
    if holds_run(output) and not resume:
        if not overwrite:
            raise UserError(
                f"{output} holds a run already: --resume continues it, --overwrite deletes it and starts again, "
                "and --output takes another folder."
            )
        _delete_run(output)
    try:
        (output / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        probe = output / CHECKPOINTS / f".probe.{os.getpid()}"
        with open(probe, "wb") as file:
            file.write(b"can this be written?")
            file.flush()
            os.fsync(file.fileno())
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"{output}: the output folder cannot be written ({error.strerror or error}); choose another with --output."
        ) from None


def holds_run(output: Path) -> bool:
    """Whether an earlier run left something worth keeping; one that ended before its first checkpoint did not."""
    return is_finished(output) or (output / BEST_MODEL).is_file() or bool(list_checkpoints(output / CHECKPOINTS))


def is_finished(output: Path) -> bool:
    """Whether a run has come to its end here: the final model is written last."""
    return (output / FINAL_MODEL).is_file()


def check_room(output: Path, checkpoint_bytes: int, keep: int, warn: Callable[[str], None]) -> None:
    """Compare the free space with what the run will write.

    Raises:
        UserError: there is not even room for one checkpoint.
    """
    free = shutil.disk_usage(output).free
    if free < checkpoint_bytes:
        raise UserError(
            f"{output}: {_gigabytes(free)} are free and one checkpoint takes {_gigabytes(checkpoint_bytes)} "
            f"({os.strerror(errno.ENOSPC)}); make room, or choose another folder with --output."
        )
    # While one is written, `keep` others are there; the best and the final model take less than one more.
    wanted = checkpoint_bytes * (keep + 2)
    if free < wanted:
        warn(
            f"{output}: {_gigabytes(free)} are free, and {keep} checkpoints with the best and the final model may take "
            f"{_gigabytes(wanted)}; lower train.keep_checkpoints or make room."
        )


def _delete_run(output: Path) -> None:
    try:
        for name in RUN_FILES:
            (output / name).unlink(missing_ok=True)
        for name in RUN_FOLDERS:
            if (output / name).is_dir():
                shutil.rmtree(output / name)
    except OSError as error:
        raise UserError(f"{output}: cannot delete the earlier run ({error.strerror or error}).") from None


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
