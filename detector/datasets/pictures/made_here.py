"""Pictures that this project has drawn: they may lie among the pictures of a set, and are none of it."""

import json
import os
from collections.abc import Collection
from pathlib import Path

# What the folder of a training run has.
_RUN = frozenset((".lock", "checkpoints", "config.yaml"))
# In the folder of a prediction; a line that is a text names an annotated copy in it.
PREDICTION_LOG = ".pictures"
_LABEL_ERRORS = "label_errors"  # how the names of sheets end, each beside a table


def is_run(entries: Collection[str]) -> bool:
    """Whether a folder, by the names in it, is that of a training run."""
    return _RUN.issubset(entries)


def drawn_in(folder: str | Path, names: Collection[str]) -> set[str]:
    """Paths of pictures in a folder and below it that a prediction or a report has drawn there.

    Args:
        folder: the folder.
        names: of the files in it.
    """
    tables = {name.removesuffix(".csv") for name in names if name.endswith(f"{_LABEL_ERRORS}.csv")}
    drawn = {f"{name}.jpg" for name in tables}
    if PREDICTION_LOG in names:
        drawn |= _listed(Path(folder, PREDICTION_LOG))
    return {os.path.join(folder, *name.split("/")) for name in drawn}


def _listed(log: Path) -> set[str]:
    try:
        lines = log.read_bytes().split(b"\n")
    except OSError:
        return set()
    found = set()
    for line in lines:
        if line.startswith(b'"'):
            try:
                found.add(json.loads(line))
            except ValueError:  # torn by a kill
                continue
    return found
