"""The folder that a run writes: whose it is, and whether there is room."""

import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from detector.config import CONFIG_FILE as CONFIG_FILE
from detector.disk import half_written_in, hold
from detector.errors import UserError
from detector.training.report.logs import EVENTS_FOLDER, LOG_FILE, METRICS_FILE
from detector.training.report.trackers import TRACKED_RUNS
from detector.training.state.checkpoint_names import list_checkpoints

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
BEST_MODEL, FINAL_MODEL = "model_best.safetensors", "model_final.safetensors"
EVALUATION, SAMPLES = "evaluation", "samples"
FIRST_BATCH = "first_batch.jpg"  # in SAMPLES
NON_FINITE_FILE = "nonfinite.jsonl"
LOCK_FILE = ".lock"  # empty; a run holds it from its start to its end

# What --overwrite deletes. Other files in the folder are the user's.
RUN_FILES = (CONFIG_FILE, BEST_MODEL, FINAL_MODEL, LOG_FILE, METRICS_FILE, NON_FINITE_FILE, TRACKED_RUNS)
RUN_FOLDERS = (CHECKPOINTS, EVALUATION, SAMPLES, EVENTS_FOLDER)

LOCKLESS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # of a file system without locks


def claim(output: Path, resume: bool, overwrite: bool) -> None:
    """Make the run's folder, empty of an earlier run unless that is to be resumed.

    Raises:
        UserError: there is a run already and neither `resume` nor `overwrite` is set, or both are; or the folder cannot
            be written.
    """
    if resume and overwrite:
        raise UserError("--resume goes on with a run and --overwrite deletes it; give one of them.")
    if holds_run(output) and not resume:
        if not overwrite:
            raise UserError(
                f"{output} holds a run already: --resume continues it, --overwrite deletes it and starts again, "
                "and --output takes another folder (in Python resume=True, overwrite=True and output=…)."
            )
        _delete_run(output)
    try:
        delete_half_written(output)
        (output / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        probe = output / CHECKPOINTS / f".probe.{os.getpid()}"
        with open(probe, "wb") as file:
            file.write(b"can this be written?")
            file.flush()
            os.fsync(file.fileno())
        probe.unlink()
    except OSError as error:
        raise UserError(_cannot_be_written(output, error)) from None


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Make the run's folder where it is missing, and keep all other runs out of it within this context.

    The system releases the folder however this process ends, so a killed run can be resumed at once.

    Raises:
        UserError: another run is at work in the folder, or it cannot be written.
    """

    def refuse() -> None:
        raise UserError(
            f"{output}: another run is writing into this folder; wait for its end or stop it, or choose another folder "
            "with --output."
        )

    with ExitStack() as held:
        try:
            output.mkdir(parents=True, exist_ok=True)
            held.enter_context(hold(output / LOCK_FILE, refuse))
        except OSError as error:
            if error.errno not in LOCKLESS:
                raise UserError(_cannot_be_written(output, error)) from None
            log.warning("%s: its file system has no locks, so a second run in this folder would not be noticed", output)
        yield


def delete_half_written(output: Path) -> None:
    """Delete what killed starts left of files that they were writing; hidden, it would fill the disk unseen.

    The checkpoints' own are deleted when the next one is saved. Raises OSError.
    """
    for folder in (output, *(output / name for name in RUN_FOLDERS)):
        for torn in half_written_in(folder):
            if torn.is_file():
                torn.unlink()


def holds_run(output: Path) -> bool:
    """Whether an earlier run left something worth keeping; one that ended before its first checkpoint did not."""
    return is_finished(output) or (output / BEST_MODEL).is_file() or bool(list_checkpoints(output / CHECKPOINTS))


def is_finished(output: Path) -> bool:
    """Whether a run has come to its end here: the final model is written last."""
    return (output / FINAL_MODEL).is_file()


def check_no_models(output: Path) -> None:
    """Raise UserError for models of a run that cannot be continued: starting again would replace them."""
    for name in (BEST_MODEL, FINAL_MODEL):
        if (output / name).is_file():
            raise UserError(
                f"{output}: has no whole checkpoint to resume from, and a run from the beginning would replace its "
                f"{name}; --weights {output / name} with another --output trains on from that, --overwrite deletes the "
                "run and starts again."
            )


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


def _cannot_be_written(output: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    if blocking := next((path for path in (output, *output.parents) if path.is_file()), None):
        reason = f"{blocking} is a file"
    return f"{output}: the output folder cannot be written ({reason}); choose another with --output."


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
