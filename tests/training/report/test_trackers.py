"""Services for curves, pretended: what they are told, and that none of them can end a run."""

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from detector.errors import UserError
from detector.training.report.logs import RunLog
from detector.training.report.trackers import TRACKED_RUNS, Trackers
from detector.training.state.progress import Progress


class Service(ModuleType):
    """Notes its calls; every function returns itself."""

    def __init__(self, name: str, failing: str = "") -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.failing = failing

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*arguments: Any, **more: Any) -> "Service":
            if name == self.failing:
                raise RuntimeError("no\nnetwork")
            self.calls.append((name, arguments, more))
            return self

        return call


def test_both_get_settings_and_curves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    services = {name: Service(name) for name in ("wandb", "mlflow")}
    for name, service in services.items():
        monkeypatch.setitem(sys.modules, name, service)
    warnings: list[str] = []
    trackers = Trackers(["wandb", "mlflow"], tmp_path / "cells" / "first", {"train.seed": 3}, warnings.append)
    trackers.log(20, {"loss/total": 1.5})
    trackers.log(40, {"val_AP/cat (a/b)": 0.5, "val_AP/..": 0.25})
    trackers.close()
    assert warnings == []
    names = {name: [call[0] for call in service.calls] for name, service in services.items()}
    assert names == {
        "wandb": ["init", "log", "log", "finish"],
        "mlflow": ["set_experiment", "start_run", "log_params", "log_metrics", "log_metrics", "end_run"],
    }
    assert services["wandb"].calls[0][2]["project"] == "cells"
    assert services["wandb"].calls[1][1:] == (({"loss/total": 1.5},), {"step": 20})
    assert services["mlflow"].calls[3][1:] == (({"loss/total": 1.5},), {"step": 20})
    # MLflow refuses names with other characters than these, and paths that are not plain.
    assert services["mlflow"].calls[4][1:] == (({"val_AP/cat _a_b_": 0.5, "val_AP/_": 0.25},), {"step": 40})


@pytest.mark.parametrize("failing", ["init", "log", "finish"])
def test_a_service_that_fails_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failing: str) -> None:
    monkeypatch.setitem(sys.modules, "wandb", Service("wandb", failing))
    warnings: list[str] = []
    trackers = Trackers(["wandb"], tmp_path, {}, warnings.append)
    trackers.log(1, {"a": 1.0})
    trackers.log(2, {"a": 1.0})
    trackers.close()
    assert len(warnings) == 1
    assert "RuntimeError: no network" in warnings[0]


class KnownRun:
    """A run of a service, as both of them say which one it is."""

    def __init__(self, identifier: str) -> None:
        self.id = identifier
        self.info = SimpleNamespace(run_id=identifier)

    def finish(self) -> None:
        """Nothing."""


def pretend_services(monkeypatch: pytest.MonkeyPatch, identifier: str) -> dict[str, list[dict[str, Any]]]:
    """Services that begin runs with this identifier; the words that each was given for its next one."""
    asked: dict[str, list[dict[str, Any]]] = {"wandb": [], "mlflow": []}

    def begin(words_of: list[dict[str, Any]], words: dict[str, Any]) -> KnownRun:
        words_of.append(words)
        return KnownRun(identifier)

    wandb, mlflow = Service("wandb"), Service("mlflow")
    wandb.init = lambda **words: begin(asked["wandb"], words)
    mlflow.start_run = lambda **words: begin(asked["mlflow"], words)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    return asked


def track(output: Path, iteration: int, settings: dict[str, Any] | None = None) -> None:
    """A run that goes on from an iteration, to its end."""
    output.mkdir(parents=True, exist_ok=True)
    with RunLog(output, rank=0) as log:
        log.begin_numbers(Progress(iteration=iteration), False, ["wandb", "mlflow"], settings)


def test_a_resumed_run_is_the_same_run_of_each_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = pretend_services(monkeypatch, "run7")
    output = tmp_path / "cells" / "first"
    track(output, 0, {"train.iterations": 20})
    assert "id" not in asked["wandb"][0]  # which WANDB_RUN_ID may say
    assert asked["mlflow"] == [{"run_name": "first"}]
    assert json.loads((output / TRACKED_RUNS).read_text()) == {"wandb": "run7", "mlflow": "run7"}

    asked = pretend_services(monkeypatch, "another")
    output = output.rename(tmp_path / "cells" / "moved")
    track(output, 20, {"train.iterations": 40})
    (again,) = asked["wandb"]
    assert (again["id"], again["resume"]) == ("run7", "allow")
    assert again["config"] == {"train.iterations": 40}
    assert again["allow_val_change"] is True  # else W&B refuses settings that differ from before
    assert asked["mlflow"] == [{"run_id": "run7"}]
    # MLflow refuses parameters that change, and runs of other experiments than the one that is set.
    assert [call[0] for call in sys.modules["mlflow"].calls] == ["end_run"]


def test_a_run_from_the_beginning_is_a_new_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for identifier in ("killed", "second"):
        asked = pretend_services(monkeypatch, identifier)
        track(tmp_path, 0)
        assert "id" not in asked["wandb"][0]
        assert "run_id" not in asked["mlflow"][0]
        assert json.loads((tmp_path / TRACKED_RUNS).read_text()) == {"wandb": identifier, "mlflow": identifier}


def test_a_run_that_a_service_has_deleted_is_begun_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend_services(monkeypatch, "new")
    (tmp_path / TRACKED_RUNS).write_text('{"mlflow": "old", "wandb": ["odd"]}')
    begin = sys.modules["mlflow"].start_run

    def start(**words: Any) -> KnownRun:
        if "run_id" in words:
            raise RuntimeError("it is in the deleted state")
        return begin(**words)

    monkeypatch.setattr(sys.modules["mlflow"], "start_run", start)
    warnings: list[str] = []
    Trackers(["mlflow"], tmp_path, {}, warnings.append).close()
    assert warnings == [
        "mlflow cannot go on with its run old (RuntimeError: it is in the deleted state); it begins another."
    ]
    assert json.loads((tmp_path / TRACKED_RUNS).read_text()) == {"mlflow": "new"}


def test_what_is_not_installed_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pip install mlflow"):
        Trackers(["mlflow"], tmp_path, {}, print)
