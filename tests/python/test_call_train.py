"""Training from Python: in any thread, step by step, in a notebook."""

import argparse
import inspect
import json
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import folder_layouts as layouts
import numpy as np
import pytest
import yaml
from safetensors.torch import load_file
from tiny_run import SETTINGS

import detector
from detector.commands import check_data as check_command
from detector.commands import evaluate as evaluate_command
from detector.commands import train as train_command
from detector.commands.main import main
from detector.errors import UserError
from detector.python import call_train

NETWORK: dict[str, Any] = {key: yaml.safe_load(value) for key, _, value in (word.partition("=") for word in SETTINGS)}


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Recipes are fitted as where no published weights can be had."""
    monkeypatch.setenv("DETECTOR_OFFLINE", "1")
    monkeypatch.setenv("DETECTOR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path: Path) -> str:
    return layouts.roboflow_voc(tmp_path / "set")


def settings(**changes: Any) -> dict[str, Any]:
    """A small network, and a run of some steps that reports every one."""
    schedule = {"train.iterations": 4, "train.evaluate_every": 2, "train.batch_size": 2, "train.milestones": [3]}
    return NETWORK | schedule | {"device": "cpu"} | changes


def test_a_run_in_a_thread_gives_paths_and_metrics(data: str, tmp_path: Path) -> None:
    results: list[detector.Run] = []

    def script() -> None:
        run = detector.train(data=data, output=tmp_path / "run", **settings())
        model = detector.load(run.best, device="cpu")
        assert model.categories.names == ["cat", "dog"]
        results.append(run)

    thread = threading.Thread(target=script)
    thread.start()
    thread.join()
    run = results[0]
    folder = tmp_path / "run"
    assert (run.best, run.final) == (str(folder / "model_best.safetensors"), str(folder / "model_final.safetensors"))
    assert run.output == str(folder)
    rows = list(run)
    scores = [row["evaluation"] for row in rows if "evaluation" in row]
    assert len(scores) == 2
    assert run.metrics == max(scores, key=lambda score: score["AP"])
    assert {"AP", "AP50", "per_class"} <= run.metrics.keys()
    shown = run._repr_html_()
    assert "data:image/jpeg;base64," in shown
    assert "AP50 " in shown
    assert f"AP={run.metrics['AP']:.3f}" in repr(run)

    # The same weights as any other call of the same settings; scored with the same result.
    again = detector.train(data=data, output=str(tmp_path / "again"), **settings())
    first, second = load_file(run.final), load_file(again.final)
    assert all(first[name].equal(second[name]) for name in first | second)
    score = detector.evaluate(run.final, device="cpu", num_workers=0)
    assert score["AP"] == pytest.approx(rows[-1]["evaluation"]["AP"])
    with pytest.raises(UserError, match=r"in Python resume=True"):
        detector.train(data=data, output=run.output, **settings())


def test_without_a_val_split_the_best_weights_are_the_last(data: str, tmp_path: Path) -> None:
    words = {"data.val_annotations": None, "data.val_images": None, "train.iterations": 1}
    run = detector.train(data=data, output=tmp_path / "run", **settings(**words))
    assert (run.best, run.metrics) == (run.final, {})


def test_steps_come_while_training_goes_on(data: str, tmp_path: Path) -> None:
    rows = []
    with detector.train_steps(data=data, output=tmp_path / "run", **settings(**{"train.iterations": 500})) as steps:
        for row in steps:
            rows.append(row)
            if row["iteration"] == 3:
                break
    assert [row["iteration"] for row in rows] == [1, 2, 2, 3]
    assert ["evaluation" in row for row in rows] == [False, False, True, False]
    assert not (tmp_path / "run/model_final.safetensors").exists()
    with pytest.raises(UserError, match="resume=True goes on"):
        _ = steps.run
    stopped_at = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])["iteration"]
    more = settings(**{"train.iterations": stopped_at + 2})
    with detector.train_steps(data=data, output=tmp_path / "run", resume=True, **more) as steps:
        assert [row["iteration"] for row in steps if "loss" in row][-2:] == [stopped_at + 1, stopped_at + 2]
    assert Path(steps.run.final).is_file()


def test_a_run_that_takes_the_place_of_another_shows_its_own_rows(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_train = call_train.train_until

    def train_late(*arguments: Any) -> Any:
        time.sleep(0.3)  # so that the old rows are still there at the first look
        return really_train(*arguments)

    monkeypatch.setattr(call_train, "train_until", train_late)
    words = settings(**{"train.iterations": np.int64(1), "train.evaluate_every": 0})
    (tmp_path / "run").mkdir()
    (tmp_path / "run/model_final.safetensors").write_bytes(b"")
    (tmp_path / "run/metrics.jsonl").write_text('{"iteration": 77, "loss": 1.0}\n')
    with detector.train_steps(data=data, output=tmp_path / "run", overwrite=True, **words) as steps:
        assert [row["iteration"] for row in steps] == [1, 1]


def test_what_the_command_would_not_take_is_refused(data: str) -> None:
    for words, message in {
        ("split", "valid"): "split='valid': did you mean 'val'",
        ("precision", "half"): "precision='half': choose one of 'auto', 'float32'",
        ("tile", 0): "tile=0: ",
    }.items():
        with pytest.raises(UserError, match=message):
            detector.evaluate("w.safetensors", data=data, **dict([words]))
    with pytest.raises(UserError, match="ignore='unused-categori': did you mean 'unused-category'"):
        detector.check_data(data, ignore=["unused-categori"])


def test_all_words_of_the_commands_are_there_in_python() -> None:
    for add_arguments, function, otherwise in (
        (evaluate_command.add_arguments, detector.evaluate, {"settings"}),
        (check_command.add_arguments, detector.check_data, {"format", "no_images"}),
        (train_command.add_arguments, detector.train, set()),
    ):
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        words = {action.dest for action in parser._actions} - {"help"} - otherwise
        assert words <= inspect.signature(function).parameters.keys()


def test_a_run_is_explained_and_not_begun(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    explanation = detector.train(data, epochs=3, batch=2, device="cpu", explain=True)
    assert capsys.readouterr().out == ""
    assert (explanation.config.train.batch_size, explanation.output) == (2, "output/set")
    assert not (tmp_path / "output").exists()
    assert main(["train", f"data={data}", "epochs=3", "batch=2", "--device", "cpu", "--explain"]) == 0
    assert capsys.readouterr().out == f"{explanation}\n"
    with pytest.raises(UserError, match=r"train\.freeze"):
        detector.train(data, explain=True, train__freeze=["nothing"])


def test_what_a_run_raises_is_raised_where_it_is_read(data: str, tmp_path: Path) -> None:
    with detector.train_steps(data=data, output=tmp_path / "run", **settings(**{"model.num_classes": 7})) as steps:
        with pytest.raises(UserError, match=r"model\.num_classes=7"):
            next(steps)
        with pytest.raises(UserError, match=r"model\.num_classes=7"):
            _ = steps.run
    with pytest.raises(UserError, match=r"did you mean train\.iterations="):
        detector.train(data=data, iters=3)
    with pytest.raises(UserError, match=r"Did you mean train\.momentum"):
        detector.train(data=data, train__momentun=0.5)


def test_a_notebook_has_a_bar_in_the_place_of_lines(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    monkeypatch.setattr("tqdm.auto.tqdm", __import__("tqdm").tqdm)
    run = detector.train(data=data, output=tmp_path / "run", **settings(**{"train.iterations": 2}))
    captured = capsys.readouterr()
    assert "parameters:" not in captured.out
    assert "parameters:" in (tmp_path / "run/log.txt").read_text()
    assert "2/2" in captured.err
    assert run.metrics
