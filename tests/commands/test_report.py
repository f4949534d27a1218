"""The command `report`: of a run's folder, of another program's results, and its refusals."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scored_sets import content, object_, perfect

from detector.commands.main import main
from detector.config import Config, save_config
from detector.errors import UserError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """val.json, images/ and detections.json."""
    annotations = [object_(i, (2, 5, 9)[i % 3]) for i in range(6)]
    (tmp_path / "val.json").write_text(json.dumps(content(annotations)))
    (tmp_path / "detections.json").write_text(json.dumps(perfect(annotations[:5], 0.75)))
    (tmp_path / "images").mkdir()
    Image.fromarray(np.full((400, 400, 3), 99, np.uint8)).save(tmp_path / "images" / "1.png")
    return tmp_path


def test_of_another_programs_results(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["report", "--detections", str(data / "detections.json"), "--annotations", str(data / "val.json")]
    assert main([*words, "--output", str(data / "out")]) == 0
    assert f"wrote {data / 'out' / 'report.html'}" in capsys.readouterr().out
    html = (data / "out" / "report.html").read_text()
    assert "1.png" in html
    assert "<img" not in html
    assert main([*words, "--images", str(data / "images")]) == 0
    assert "<img" in (data / "report.html").read_text()


def test_of_a_training_run(data: Path) -> None:
    run = data / "run"
    (run / "evaluation").mkdir(parents=True)
    (data / "detections.json").rename(run / "evaluation" / "detections.json")
    places = {"val_annotations": str(data / "val.json"), "val_images": str(data / "images")}
    config = Config()
    save_config(dataclasses.replace(config, data=dataclasses.replace(config.data, **places)), run / "config.yaml")
    lines = [{"iteration": i, "loss": 1.0 / i, "losses": {}} for i in (1, 2, 3)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["report", str(run)]) == 0
    html = (run / "evaluation" / "report.html").read_text()
    assert "training loss" in html
    assert "val_annotations" in html
    assert "<img" in html


def test_evaluate_writes_one_too_with_the_same_numbers(data: Path) -> None:
    words = ["evaluate", "--detections", str(data / "detections.json"), "--annotations", str(data / "val.json")]
    assert main([*words, "--images", str(data / "images"), "--output", str(data / "out"), "--report"]) == 0
    html = (data / "out" / "report.html").read_text()
    metrics = json.loads((data / "out" / "metrics.json").read_text())
    values = re.findall(r'<data value="([^"]+)">', html)
    assert 0 < metrics["AP"] < 1
    assert repr(metrics["AP"]) in values
    assert "<img" in html
    with pytest.raises(UserError, match="--report writes into the folder of --output"):
        main([*words, "--report"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give the folder of a run or an evaluation, or --detections and --annotations"),
        (["nowhere"], "nowhere: no such folder"),
        (["{data}"], "nothing says which annotations it is of; give --annotations"),
        (["{data}/images"], "holds no detections.json; training writes it"),
        (["--detections", "{data}/no.json"], "no such file of detections"),
        (["{data}", "--annotations", "{data}/val.json", "--images", "{data}/no"], "no such folder of pictures"),
        (["{data}", "--annotations", "{data}/no.json"], "no such file or folder of annotations"),
    ],
)
def test_refusals(data: Path, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(["report", *(word.format(data=data) for word in words)])
