"""An exported file has its name once it is checked, and not before."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import tiny_config, tiny_model

from detector.categories import Category, CategoryMap
from detector.commands.main import main
from detector.config import Config, ViewsConfig
from detector.errors import UserError
from detector.export import exporting
from detector.export.export_network import ExportNetwork
from detector.export.formats import Outputs
from detector.weights.files import save_weights

CATEGORIES = CategoryMap((Category(1, "a"), Category(2, "b"), Category(3, "c")))


@pytest.fixture(scope="module")
def config() -> Config:
    return tiny_config(inputs={"min_size_test": 64, "max_size_test": 96})


@pytest.fixture(scope="module")
def weights(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, tiny_model(config).state_dict(), config, CATEGORIES, {})
    return path


def pretend(monkeypatch: pytest.MonkeyPatch, config: Config, shift: float) -> None:
    """Formats that are written and run at once: the network itself, whose boxes lie `shift` pixels beside."""
    network = ExportNetwork(tiny_model(config))

    def writer(_program: Any, _facts: Any, path: Path) -> None:
        path.write_bytes(b"a program")

    def call(image: np.ndarray, threshold: float) -> Outputs:
        with torch.no_grad():
            boxes, scores, labels = network(torch.from_numpy(image), torch.tensor(threshold))
        return boxes.numpy() + shift, scores.numpy(), labels.numpy()

    monkeypatch.setattr(exporting, "trace", lambda *_: None)
    monkeypatch.setattr(exporting, "WRITERS", {"pt2": writer})
    monkeypatch.setattr(exporting, "RUNNERS", {"pt2": lambda _path: call})


def test_a_file_that_agrees_is_written(
    weights: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, config, 0.0)
    assert main(["export", "--weights", str(weights), str(tmp_path / "new" / "model.pt2")]) == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.pt2"]
    assert "the same labels" in capsys.readouterr().out


def test_what_begins_is_said_with_the_seconds_so_far(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretend(monkeypatch, config, 0.0)
    with caplog.at_level("INFO", "detector.export"):
        exporting.export(tiny_model(config), config, CATEGORIES, {}, tmp_path / "model.pt2")
    lines = [record.getMessage().split(" s   ") for record in caplog.records]
    assert [what.split(",")[0] for _, what in lines] == [
        "tracing the network",
        "writing pt2",
        "reading what was written",
        *(f"comparing it with the network on {size} pixels" for size in ("64×85", "102×68", "68×68", "17×22")),
    ]
    seconds = [int(clock) for clock, _ in lines]
    assert seconds == sorted(seconds)


def test_a_file_that_differs_is_not_and_the_exit_code_is_1(
    weights: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, config, 0.2)
    (tmp_path / "model.pt2").write_bytes(b"earlier")
    assert main(["export", "--weights", str(weights), str(tmp_path / "model.pt2")]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]
    assert (tmp_path / "model.pt2").read_bytes() == b"earlier"
    assert "0.200 px" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("model.engine", r"ends with \.onnx or \.pt2"),
        ("model", r"ends with \.onnx or \.pt2"),
        ("missing.safetensors", "ends"),
    ],
)
def test_other_names_are_refused(weights: Path, tmp_path: Path, output: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        main(["export", "--weights", str(weights), str(tmp_path / output)])


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_bytes(b"years of work")
    with pytest.raises(UserError, match="holds other files"):
        exporting.check_place(tmp_path)
    (tmp_path / "thesis.docx").rename(tmp_path / "model.xml")
    exporting.check_place(tmp_path)
    exporting.check_place(tmp_path / "new")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"roi": {"global_context": True}}, r"model.roi.global_context=true is not exported"),
        (
            {"detection": {"refine_passes": 1}},
            r"refine_passes=1: this is not exported; give model.detection.refine_passes=0 to",
        ),
        (
            {"detection": {"voting_threshold": 0.5, "merge": "soft_nms_linear"}},
            r"merge=soft_nms_linear .*=0.5: this is .*; give model.detection.merge=nms model.*voting_threshold=null",
        ),
        (
            {"detection": {"augment": ViewsConfig(form="detectron2")}},
            r"augment\.form=detectron2: a file looks once at each picture; give model\.detection\.augment\.form=null",
        ),
    ],
)
def test_what_no_file_does_is_refused(changes: dict[str, Any], message: str) -> None:
    exporting.check_exportable(tiny_config().model)
    with pytest.raises(UserError, match=message):
        exporting.check_exportable(tiny_config(**changes).model)
