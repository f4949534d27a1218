"""Services for curves, pretended: what they are told, and that none of them can end a run."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from detector.errors import UserError
from detector.training.report.trackers import Trackers


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


def test_what_is_not_installed_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pip install mlflow"):
        Trackers(["mlflow"], tmp_path, {}, print)
