"""A run's curves for services that track experiments; their packages are imported only where a run names them."""

import importlib
import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.errors import UserError

Log = Callable[[int, Mapping[str, float]], None]


class Trackers:
    """Weights & Biases and MLflow, as far as they are named. What they raise is a warning, and ends their part alone.

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
        self._open: dict[str, tuple[Log, Callable[[], Any]]] = {}
        check_installed(names)
        for name in names:
            start = _start_wandb if name == "wandb" else _start_mlflow
            try:
                self._open[name] = start(importlib.import_module(name), output.absolute(), settings)
            except Exception as error:
                warn(f"{name} does not take this run ({_brief(error)}); it trains without.")

    def log(self, iteration: int, values: Mapping[str, float]) -> None:
        """Hand over points of curves, by name such as `loss/total`."""
        for name, (write, _) in list(self._open.items()):
            try:
                write(iteration, values)
            except Exception as error:
                del self._open[name]
                self._warn(f"{name} takes no more numbers of this run ({_brief(error)}).")

    def close(self) -> None:
        """End each service's run."""
        for name, (_, end) in self._open.items():
            try:
                end()
            except Exception as error:
                self._warn(f"{name} did not end this run well ({_brief(error)}).")
        self._open = {}


def check_installed(names: Sequence[str]) -> None:
    """Raise UserError for a service whose package is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"train.trackers={name}: it is not installed; pip install {name}, or take it out.")


def _start_wandb(wandb: Any, output: Path, settings: Mapping[str, Any]) -> tuple[Log, Callable[[], Any]]:
    run = wandb.init(project=output.parent.name, name=output.name, dir=str(output), config=dict(settings))
    return lambda iteration, values: run.log(dict(values), step=iteration), run.finish


def _start_mlflow(mlflow: Any, output: Path, settings: Mapping[str, Any]) -> tuple[Log, Callable[[], Any]]:
    mlflow.set_experiment(output.parent.name)
    mlflow.start_run(run_name=output.name)
    mlflow.log_params({key: str(value)[:250] for key, value in settings.items()})
    return lambda iteration, values: mlflow.log_metrics(_mlflow_names(values), step=iteration), mlflow.end_run


def _mlflow_names(values: Mapping[str, float]) -> dict[str, float]:
    """Values by names that MLflow takes: those of classes, as in `val_AP/cat (black)`, may have other characters."""
    names = {}
    for name, value in values.items():
        group, slash, last = name.partition("/")
        names[group + slash + (re.sub(r"[^\w. -]", "_", last).strip(".") or "_" if slash else "")] = value
    return names


def _brief(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
