"""The report of a run: beside its metrics with the same numbers, in TensorBoard, and no reason to end the run."""

import csv
import json
import re
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import tiny_config, write_dataset

from detector.errors import UserError
from detector.training.engine import Outcome, train
from detector.training.run import run_report

ONE = ("train.iterations=1", "train.milestones=[]", "train.validation_loss=false")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_dataset(tmp_path_factory.mktemp("data"))


def test_a_run_leaves_a_report_and_curves(data: list[str], tmp_path: Path) -> None:
    assert train(tiny_config(data, *ONE, "train.tensorboard=true"), tmp_path, device="cpu") == Outcome(1, 0)
    html = (tmp_path / "evaluation/report.html").read_text()
    metrics = json.loads((tmp_path / "evaluation/metrics.json").read_text())
    values = re.findall(r'<data value="([^"]+)">', html)
    for name in ("AP", "AP50", "AR100"):
        assert repr(metrics[name]) in values
    assert "iterations: 1" in html  # of the settings
    with open(tmp_path / "evaluation/report.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["AP"]) for line in lines[1:]] == [one["AP"] for one in metrics["per_class"]]
    assert float(lines[0]["AP"]) == metrics["AP"]

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    scalars = events.Tags()["scalars"]
    assert {"gradient_norm", "memory/gigabytes", "val/AP"} <= set(scalars)
    assert [name for name in scalars if name.startswith("val_AP/")] == [
        f"val_AP/{one['name']}" for one in metrics["per_class"]
    ]
    assert events.Scalars("gradient_norm")[0].value > 0
    assert "val_precision/all" in events.Tags()["tensors"]
    (curve,) = events.Tensors("val_precision/all")
    assert curve.tensor_proto.tensor_shape.dim[1].size == 101


def test_a_report_that_cannot_be_written_ends_nothing(
    data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UserError("no room")

    monkeypatch.setattr(run_report, "write_report", fail)
    assert train(tiny_config(data, *ONE), tmp_path, device="cpu") == Outcome(1, 0)
    assert "no report of this evaluation: no room" in (tmp_path / "log.txt").read_text()
    assert (tmp_path / "evaluation/metrics.json").is_file()
