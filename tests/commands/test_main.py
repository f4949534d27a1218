"""The command as a whole: which command is meant, what its help says, and that it answers at once."""

import subprocess
import sys
from pathlib import Path

import pytest

import detector
from detector.commands.main import COMMANDS, main
from detector.errors import UserError

HEAVY = ("torch", "tensorboard", "torchvision", "albumentations")
SCRIPTS = {
    "train": "train_net",
    "predict": "infer",
    "evaluate": "evaluate",
    "check-data": "check_data",
    "convert-data": "convert_data",
    "convert-weights": "convert_weights",
    "doctor": "doctor",
}
WITH_HELP = [name for name in COMMANDS if name != "benchmark"]


def test_without_words_it_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == listed
    assert listed.startswith("usage: faster-rcnn COMMAND")
    assert all(f"\n  {name}  " in listed for name in COMMANDS if len(name) == max(map(len, COMMANDS)))
    assert all(f"\n  {name} " in listed for name in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"faster-rcnn {detector.__version__}\n"


@pytest.mark.parametrize(
    ("word", "near"), [("trian", "train"), ("infer-data", "convert-data"), ("check_data", "check-data")]
)
def test_an_unknown_command_gets_the_nearest_right_one(word: str, near: str) -> None:
    with pytest.raises(UserError, match=rf"there is no command '{word}'; did you mean {near}\?"):
        main([word])


def test_an_unknown_command_that_is_near_to_none_gets_all() -> None:
    with pytest.raises(UserError, match=r"there are: train, predict, .*benchmark"):
        main(["x\x1b[31m"])


@pytest.mark.parametrize("name", WITH_HELP)
def test_help_and_examples_show_the_name_by_which_it_was_called(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([name, "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: faster-rcnn {name} ")
    assert f"\n  faster-rcnn {name}" in text
    assert "tools/" not in text
    assert "{" not in text.replace("{float32,bfloat16}", "").split("examples:")[1]


@pytest.mark.parametrize(("name", "script"), SCRIPTS.items())
def test_the_scripts_are_the_same_commands(name: str, script: str, project_root: Path) -> None:
    shown = [
        subprocess.run([sys.executable, *how, "--help"], cwd=project_root, capture_output=True, text=True, check=True)
        for how in ((f"tools/{script}.py",), ("-m", "detector", name))
    ]
    by_script, by_module = (done.stdout for done in shown)
    assert by_script.startswith(f"usage: python tools/{script}.py ")
    assert f"\n  python tools/{script}.py" in by_script
    examples = by_script[by_script.index("\nexamples:") :]
    examples = examples.replace(f"python tools/{script}.py", f"python -m detector {name}")
    assert (
        examples.replace(f" tools/{script}.py", f" -m detector {name}") == by_module[by_module.index("\nexamples:") :]
    )


@pytest.mark.parametrize(
    "words", [["--help"], ["trian"], *([name, "--help"] for name in WITH_HELP), ["predict"], ["evaluate", "--wrong"]]
)
def test_help_and_mistakes_in_words_import_nothing_heavy(words: list[str]) -> None:
    code = f"""
import sys
from detector.commands.main import main
from detector.errors import UserError
try:
    main({words!r})
except (SystemExit, UserError):
    pass
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_the_benchmark_needs_a_clone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("detector.commands.benchmark.SCRIPT", tmp_path / "benchmark.py")
    with pytest.raises(UserError, match="in a clone of the repository only"):
        main(["benchmark", "--help"])


def test_the_benchmark_gets_its_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "benchmark.py"
    script.write_text(
        "import sys, pathlib; pathlib.Path(__file__).with_name('words').write_text(' '.join(sys.argv[1:]))"
    )
    monkeypatch.setattr("detector.commands.benchmark.SCRIPT", script)
    monkeypatch.setattr(sys, "argv", ["faster-rcnn"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["benchmark", "--one", "two"]) == 0
    assert (tmp_path / "words").read_text() == "--one two"


def test_the_overview_names_the_command_as_it_was_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"], program="python -m detector") == 0
    text = capsys.readouterr().out
    assert "`python -m detector train` trains" in text
    assert "{" not in text


@pytest.mark.parametrize(("option", "setting"), [(["--epochs", "3"], "epochs=…"), (["--batch-size=4"], "batch_size=…")])
def test_a_setting_that_is_written_as_an_option_is_told_how(
    option: list[str], setting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["train", *option])
    assert exit_.value.code == 2
    assert f"settings are written without dashes: {setting}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["check-data", "--data", "x"])
    assert "written without dashes: data=…" in capsys.readouterr().err
