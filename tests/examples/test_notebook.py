"""The six lines for a notebook: they run in a thread, and a type checker accepts them against the installed wheel."""

import os
import subprocess
import sys
import sysconfig
import threading
import venv
from pathlib import Path
from typing import Any

import folder_layouts as layouts
import pytest
import yaml
from tiny_run import PROJECT, SETTINGS, environment

SCRIPT = PROJECT / "examples" / "notebook.py"
# A network of seconds in the place of the fitted one.
SMALL: dict[str, Any] = {key: yaml.safe_load(value) for key, _, value in (word.partition("=") for word in SETTINGS)}
SMALL = {key: value for key, value in SMALL.items() if key not in ("train.iterations", "train.batch_size")}
SMALL |= {"batch": 2, "device": "cpu"}

WRONG = """
path: int = run.best
for detection in detections:
    name: bytes = detection.name
"""


def six_lines(data: str, picture: Path) -> str:
    """The script with these places in it."""
    text = SCRIPT.read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith('"""')]
    assert len(lines) == 6
    for before, after in {
        '"my_export", epochs=12': f"{data!r}, epochs=1, **small",
        '"output/mine"': repr(str(picture.parent / "run")),
        '"photo.jpg"': repr(str(picture)),
        '"photo_detections.png"': repr(str(picture.parent / "detections.png")),
    }.items():
        assert text.count(before) == 1
        text = text.replace(before, after)
    return text


def test_they_run_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DETECTOR_OFFLINE", "1")
    data = layouts.roboflow_coco(tmp_path / "set")
    names: dict[str, Any] = {"small": SMALL}
    errors: list[BaseException] = []

    def cell() -> None:
        try:
            exec(compile(six_lines(data, tmp_path / "set/test/200.png"), SCRIPT.name, "exec"), names)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=cell)
    thread.start()
    thread.join()
    assert errors == []
    assert (tmp_path / "set/test/detections.png").is_file()
    assert f"{tmp_path}/set/test/run/model_best.safetensors" in capsys.readouterr().out


@pytest.mark.slow
def test_a_strict_type_checker_accepts_them_against_the_wheel(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path / "wheels")
    python = interpreter_with(wheel, tmp_path / "installed")
    where = "import detector, pathlib; print(pathlib.Path(detector.__file__).parent)"
    found = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True, env=clean(), cwd=tmp_path)
    assert found.stdout.startswith(str(tmp_path / "installed"))
    (tmp_path / "notebook.py").write_text(SCRIPT.read_text())
    (tmp_path / "wrong.py").write_text(SCRIPT.read_text() + WRONG)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--python-executable", str(python)]
    command += ["--cache-dir", str(tmp_path / "cache"), "--no-error-summary", "notebook.py", "wrong.py"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, env=clean(), cwd=tmp_path)
    errors = [line.split(": error: ")[0] for line in checked.stdout.splitlines() if ": error: " in line]
    first = len(SCRIPT.read_text().splitlines()) + 1
    assert errors == [f"wrong.py:{first + 1}", f"wrong.py:{first + 3}"], checked.stdout + checked.stderr


def clean() -> dict[str, str]:
    """The environment without the project's own folder on the path."""
    return {key: value for key, value in environment().items() if key not in ("PYTHONPATH", "MYPYPATH")}


def build_wheel(folder: Path) -> Path:
    """The project's wheel, built as pip does it; skips where the registry has to be asked and cannot be."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(PROJECT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False, env=clean())
    if built.returncode and "hatchling" in built.stderr and "No matching distribution" in built.stderr:
        pytest.skip("hatchling, which builds the wheel, cannot be fetched here")
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def interpreter_with(wheel: Path, folder: Path) -> Path:
    """A Python that has the wheel, and after it all packages of this one."""
    venv.create(folder)
    python = folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(command, check=True, env=clean())
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    assert (packages / "detector" / "py.typed").is_file()
    (packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}{os.linesep}")
    return python
