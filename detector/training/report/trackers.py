"""A run's curves for services that track experiments; their packages are imported only where a run names them."""

import importlib
import importlib.util
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detector.disk import write_atomically
from detector.errors import UserError

TRACKED_RUNS = "trackers.json"  # in a run's folder: by service, its identifier of the run

Log = Callable[[int, Mapping[str, float]], None]


class _Tracked(NamedTuple):
    """A run as a service has it: how it takes points of curves, how it is ended, and its identifier there if known."""

    log: Log
    end: Callable[[], Any]
    identifier: object


class Trackers:
    """Weights & Biases and MLflow, as far as they are named. What they raise is a warning, and ends their part alone.

    Each goes on with its run that `trackers.json` in the output folder names, and begins one where it names none.

    Args:
        names: of `wandb` and `mlflow`.
        output: the run's folder; its name is the run's, that of the folder above the project's.
        settings: of the run, flat, by dotted names.
        warn: takes one sentence.

    Raises:
        UserError: a package that is named is not installed.
    """

    def __init__(
        self, names: Sequence[str], output: Path, settings: Mapping[str, Any], warn: Callable[[str], None]
    ) -> None:
        self._warn = warn
        self._open: dict[str, _Tracked] = {}
        check_installed(names)
        known = tracked_runs(output)
        for name in names:
            start = _start_wandb if name == "wandb" else _start_mlflow
            try:
                service = importlib.import_module(name)
                self._open[name] = start(service, output.absolute(), settings, known.get(name), warn)
            except Exception as error:
                warn(f"{name} does not take this run ({_brief(error)}); it trains without.")
        begun = {name: run.identifier for name, run in self._open.items() if isinstance(run.identifier, str)}
        if known | begun != known:
            try:
                write_atomically(output / TRACKED_RUNS, json.dumps(known | begun, indent=1).encode())
            except UserError as error:
                warn(f"{error} A resumed run will begin anew at {' and '.join(begun)}.")

    def log(self, iteration: int, values: Mapping[str, float]) -> None:
        """Hand over points of curves, by name such as `loss/total`."""
        for name, run in list(self._open.items()):
            try:
                run.log(iteration, values)
            except Exception as error:
                del self._open[name]
                self._warn(f"{name} takes no more numbers of this run ({_brief(error)}).")

    def close(self) -> None:
        """End each service's run, which may be gone on with later."""
        for name, run in self._open.items():
            try:
                run.end()
            except Exception as error:
                self._warn(f"{name} did not end this run well ({_brief(error)}).")
        self._open = {}


def check_installed(names: Sequence[str]) -> None:
    """Raise UserError for a service whose package is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"train.trackers={name}: it is not installed; pip install {name}, or take it out.")


def tracked_runs(output: Path) -> dict[str, str]:
    """By service, its identifier of the run in a folder; empty where none is known."""
    try:
        runs = json.loads((output / TRACKED_RUNS).read_bytes())
    except (OSError, ValueError):
        return {}
    return {name: run for name, run in runs.items() if isinstance(run, str)} if isinstance(runs, dict) else {}


def _start_wandb(
    wandb: Any, output: Path, settings: Mapping[str, Any], known: str | None, _warn: Callable[[str], None]
) -> _Tracked:
    """`known` is gone on with, or begun anew by this identifier where it is gone; settings may have changed since."""
    going_on = {} if known is None else {"id": known, "resume": "allow", "allow_val_change": True}
    run = wandb.init(project=output.parent.name, name=output.name, dir=str(output), config=dict(settings), **going_on)
    return _Tracked(
        lambda iteration, values: run.log(dict(values), step=iteration), run.finish, getattr(run, "id", None)
    )


def _start_mlflow(
    mlflow: Any, output: Path, settings: Mapping[str, Any], known: str | None, warn: Callable[[str], None]
) -> _Tracked:
    """Of a run that goes on the parameters stay, since MLflow does not let them change."""
    run = None
    if known is not None:
        try:
            # Without set_experiment: MLflow refuses a run of an experiment that is not the one set, and the folder,
            # which names it, may have moved.
            run = mlflow.start_run(run_id=known)
        except Exception as error:
            warn(f"mlflow cannot go on with its run {known} ({_brief(error)}); it begins another.")
    if run is None:
        if not os.environ.get("MLFLOW_RUN_ID"):  # a run, with its experiment, that somebody has begun for this process
            mlflow.set_experiment(output.parent.name)
        run = mlflow.start_run(run_name=output.name)
        mlflow.log_params({key: str(value)[:250] for key, value in settings.items()})
    return _Tracked(
        lambda iteration, values: mlflow.log_metrics(_mlflow_names(values), step=iteration),
        mlflow.end_run,
        getattr(getattr(run, "info", None), "run_id", None),
    )


def _mlflow_names(values: Mapping[str, float]) -> dict[str, float]:
    """Values by names that MLflow takes: those of classes, as in `val_AP/cat (black)`, may have other characters."""
    names = {}
    for name, value in values.items():
        group, slash, last = name.partition("/")
        names[group + slash + (re.sub(r"[^\w. -]", "_", last).strip(".") or "_" if slash else "")] = value
    return names


def _brief(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
