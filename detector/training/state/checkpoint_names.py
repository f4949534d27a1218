"""Names of checkpoints' folders, and the folders with such names."""

from pathlib import Path

_PREFIX = "iteration_"


def checkpoint_name(iteration: int) -> str:
    """The name of a checkpoint's folder."""
    return f"{_PREFIX}{iteration:07d}"


def iteration_of(path: Path) -> int:
    """The iteration that a checkpoint's name says."""
    return int(path.name.removeprefix(_PREFIX))


def list_checkpoints(folder: Path) -> list[Path]:
    """The folders that are named like a checkpoint, newest first; they are not opened."""
    folders = [p for p in folder.glob(f"{_PREFIX}*") if p.name.removeprefix(_PREFIX).isdecimal() and p.is_dir()]
    return sorted(folders, key=iteration_of, reverse=True)
