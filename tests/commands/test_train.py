import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import PROJECT, TRAIN_NET, environment, run, tiny_config, train_command, write_dataset

from detector.commands.main import main
from detector.config import load_config, save_config
from detector.errors import UserError
from detector.training import engine
from detector.training.engine import Outcome
from detector.weights.files import read_weights


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What training was asked for, each time; nothing is trained."""
    calls: list[tuple[Any, ...]] = []

    def note(*arguments: Any) -> Outcome:
        calls.append(arguments)
        return Outcome(10, 0)

    monkeypatch.setattr(engine, "train", note)
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    return calls


def call(asked: list[tuple[Any, ...]], *words: str) -> tuple[Any, ...]:
    assert main(["train", *words]) == 0
    return asked[-1]


def test_without_arguments_it_is_quickstart(asked: list[tuple[Any, ...]]) -> None:
    config, output, resume, overwrite, device = call(asked)
    assert config == load_config(PROJECT / "configs" / "quickstart.yaml")
    assert (output, resume, overwrite, device) == (Path("output/quickstart"), False, False, "auto")


def test_arguments(asked: list[tuple[Any, ...]], tmp_path: Path) -> None:
    words = ["--config", str(PROJECT / "configs/r50c4_coco_1x.yaml"), "--overwrite", "--device", "cpu"]
    words += [f"data.{split}_{what}={tmp_path}" for split in ("train", "val") for what in ("annotations", "images")]
    words += ["--output", str(tmp_path / "here"), "train.seed=5", "--weights", "R50-C4-3x", "train.batch_size=8"]
    config, output, resume, overwrite, device = call(asked, *words)
    assert (config.train.seed, config.train.batch_size, config.model.weights) == (5, 8, "R50-C4-3x")
    assert (output, resume, overwrite, device) == (tmp_path / "here", False, True, "cpu")


def test_a_resumed_run_keeps_its_settings(asked: list[tuple[Any, ...]], tmp_path: Path) -> None:
    save_config(load_config(None, ["train.seed=77"]), tmp_path / "config.yaml")
    config, _, resume, *_ = call(asked, "--output", str(tmp_path), "--resume", "train.log_every=3")
    assert resume
    assert (config.train.seed, config.train.log_every) == (77, 3)
    # Not where there is none, and not without --resume.
    fresh, *_ = call(asked, "--output", str(tmp_path / "new"), "--resume")
    assert fresh == load_config(PROJECT / "configs" / "quickstart.yaml")
    fresh, *_ = call(asked, "--output", str(tmp_path))
    assert fresh.train.seed == 0


def test_a_start_after_torchruns_first_resumes(
    asked: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    _, _, resume, overwrite, _ = call(asked, "--output", str(tmp_path), "--overwrite")
    assert resume
    assert not overwrite
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    _, _, resume, overwrite, _ = call(asked, "--output", str(tmp_path), "--overwrite")
    assert not resume
    assert overwrite


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--weights", "R51-C4-3x"],
            "weights 'R51-C4-3x': there is no such file, and no such published name; did you mean",
        ),
        (["--weights", "output/none.safetensors"], r"none\.safetensors'?: there is no such file"),
        (
            ["--weights", "https://a.example/w.pth?raw=1"],
            r"model\.weights=https://a\.example/w\.pth\?raw=1 \(com.* is an add",
        ),
        (["data=https://a.example/set.zip"], r"data=https://a\.example/set\.zip: is an address; fetch and unpack it"),
        (["model.backbone.weights=ResNet-51"], "weights 'ResNet-51': .* did you mean ResNet-"),
        (["--config", "r50c4_coco_1x"], r"data\.train_annotations=.*no such file or folder"),
    ],
)
def test_what_is_not_there_is_said_before_anything_heavy(words: list[str], sentence: str, tmp_path: Path) -> None:
    code = f"""
import sys
from detector.commands.main import main
from detector.errors import UserError
try:
    main({["train", *words]!r})
except UserError as error:
    print(error)
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert re.search(sentence, done.stdout), done.stdout
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_torn_are_refused_before_pictures_are_rendered(
    asked: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"torn\.safetensors: not a complete"):
        main(["train", "--weights", str(tmp_path / "torn.safetensors")])
    with pytest.raises(UserError, match="frozen_batch needs trained weights"):
        main(["train", "model.backbone.norm=frozen_batch"])
    assert asked == []


def test_a_stopped_run_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "train", lambda *_: Outcome(5, signal.SIGTERM))
    assert main(["train"]) == 143


def test_the_command_trains_refuses_and_goes_on(tmp_path: Path) -> None:
    settings = ["train.iterations=4", "model.detection.score_threshold=0.01"]
    save_config(tiny_config(write_dataset(tmp_path / "data"), *settings), tmp_path / "tiny.yaml")
    words = ["--config", str(tmp_path / "tiny.yaml")]
    output = tmp_path / "run"
    wrong = run(train_command(output, *words, "train.iteration=5"))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: ")
    assert wrong.stderr.endswith("unknown setting train.iteration. Did you mean train.iterations?\n")

    # Ctrl-C as soon as the first step is done: the run saves, and goes on from there.
    with subprocess.Popen(
        train_command(output, *words), stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "iteration 1/4" in line:
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    refused = run(train_command(output, *words))
    assert refused.returncode == 2
    assert "holds a run already: --resume continues it" in refused.stderr
    resumed = run(train_command(output, "--resume"))
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming from" in resumed.stdout
    assert "Average Precision  (AP) @[ IoU=0.50:0.95" in resumed.stdout
    assert read_weights(output / "model_final.safetensors").provenance["iterations"] == 4

    # evaluate.py finds the same, to the bit.
    weights = str(output / "model_final.safetensors")
    evaluate = [sys.executable, str(PROJECT / "tools" / "evaluate.py"), "--device", "cpu", "--weights", weights]
    evaluated = run([*evaluate, "--output", str(tmp_path / "again")])
    assert evaluated.returncode == 0, evaluated.stderr
    detections = json.loads((output / "evaluation" / "detections.json").read_text())
    assert len(detections) > 10
    assert json.loads((tmp_path / "again" / "detections.json").read_text()) == detections


def test_help_has_examples() -> None:
    shown = run(train_command(Path("unused"), "--help"))
    assert shown.returncode == 0
    assert "torchrun --nproc-per-node=8" in shown.stdout


@pytest.mark.gpu
@pytest.mark.usefixtures("real_cuda")
def test_on_a_gpu(tmp_path: Path) -> None:
    save_config(tiny_config(write_dataset(tmp_path / "data")), tmp_path / "tiny.yaml")
    words = ["--config", str(tmp_path / "tiny.yaml"), "--output", str(tmp_path / "run")]
    done = run([sys.executable, str(TRAIN_NET), *words], CUDA_VISIBLE_DEVICES="0")
    assert done.returncode == 0, done.stderr
    assert "bfloat16" in done.stdout
    assert torch.cuda.is_available()


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("train.freeze=[backbon]", "train.freeze: 'backbon' matches no parameter; did you mean backbone"),
        ("data.augment.transforms=[ToGrey]", "ToGrey"),
    ],
)
def test_names_that_nothing_has_are_said_before_weights_are_read(
    word: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detector.weights.resolve.read_weights", lambda *_: pytest.fail("the weights are read"))
    weights = tmp_path / "w.safetensors"
    weights.touch()
    with pytest.raises(UserError, match=sentence):
        main(["train", "--output", str(tmp_path / "run"), "--weights", str(weights), word, *write_dataset(tmp_path)])


def test_words_that_stand_for_nothing_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--weights names nothing"):
        main(["train", "--weights", ""])
    with pytest.raises(UserError, match=f"given as data={re.escape(str(tmp_path))}"):
        main(["train", str(tmp_path)])
    with pytest.raises(UserError, match=f"given as data={re.escape(str(tmp_path))}"):
        main(["check-data", str(tmp_path)])


def test_what_a_run_began_from_may_be_gone_and_its_config_too(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    few = ["train.iterations=2", "train.evaluate_every=0", "train.validation_loss=false"]
    begun_from = tmp_path / "first/model_final.safetensors"
    words = ["train", "--device", "cpu", "--config", str(tmp_path / "tiny.yaml")]
    save_config(tiny_config(data, *few), tmp_path / "tiny.yaml")
    assert main([*words, "--output", str(tmp_path / "first")]) == 0
    output = tmp_path / "second"
    assert main([*words, "--output", str(output), "--weights", str(begun_from)]) == 0
    begun_from.unlink()
    again = ["train", "--device", "cpu", "--output", str(output), "--resume"]
    for length, more in ((3, []), (4, ["--weights", "R50-C4-3x"])):
        assert main([*again, f"train.iterations={length}", *more]) == 0
        assert load_config(output / "config.yaml").model.weights == str(begun_from)
        provenance = read_weights(output / "model_final.safetensors").provenance
        assert (provenance["started_from"], provenance["iterations"]) == ("model_final.safetensors", length)
        (output / "config.yaml").unlink()
