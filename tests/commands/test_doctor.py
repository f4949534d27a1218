"""The check of an installation: what it prints when all is well, and the sentence for each fault."""

import cv2
import pytest
import torch
import torchvision

import detector
from detector.commands import doctor
from detector.commands.main import main


def pretend_versions(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> None:
    monkeypatch.setattr(doctor, "installed_version", versions.get)


def test_a_sound_installation(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pretend_versions(monkeypatch, {"opencv-python-headless": "5.0.0.93"})
    assert main(["doctor", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "right on cpu" in printed
    assert f"faster-rcnn             {detector.__version__} in " in printed
    assert "all is well" in printed


def test_two_distributions_of_cv2_that_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_versions(monkeypatch, {"opencv-contrib-python": "5.0.0.93", "opencv-python-headless": "5.0.0.93"})
    assert main(["doctor", "--device", "cpu"]) == 2
    printed, warned = capsys.readouterr()
    assert f"{cv2.__version__} works" in printed
    assert printed.endswith("\n1 warning\n")
    assert "warning: opencv-python-headless 5.0.0.93 and opencv-contrib-python 5.0.0.93 share the folder cv2" in warned
    assert "pip uninstall -y opencv-contrib-python && pip install --force-reinstall" in warned


def test_faults_and_warnings_are_counted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pretend_versions(monkeypatch, {"opencv-python": "5.0.0.93", "opencv-python-headless": "5.0.0.93"})
    assert main(["doctor", "--device", "cuda:99"]) == 2
    assert capsys.readouterr().out.endswith("\n1 fault and 1 warning\n")


def test_two_versions_of_cv2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pretend_versions(monkeypatch, {"opencv-python": "4.10.0.84", "opencv-python-headless": "4.9.0.80"})
    assert main(["doctor", "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "opencv-python-headless 4.9.0.80 and opencv-python 4.10.0.84 share the folder cv2" in error
    assert "pip uninstall -y opencv-python && pip install" in error


def test_half_of_cv2_uninstalled(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pretend_versions(monkeypatch, {"opencv-python": "5.0.0.93"})
    monkeypatch.delattr(cv2, "__version__")
    assert main(["doctor", "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "OpenCV cannot be used" in error
    assert "pip install --force-reinstall --no-deps opencv-python-headless`" in error


@pytest.mark.parametrize("operator", ["nms", "roi_align"])
def test_a_wrong_operator(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], operator: str) -> None:
    monkeypatch.setattr(torchvision.ops, operator, lambda *_args, **_kwargs: torch.tensor([0.0]))
    assert main(["doctor", "--device", "cpu"]) == 2
    assert "install torch and torchvision from one index" in capsys.readouterr().err


def test_a_missing_operator(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_args: object) -> None:
        raise RuntimeError("operator torchvision::nms\n does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", refuse)
    assert main(["doctor", "--device", "cpu"]) == 2
    assert "error: operators: RuntimeError: operator torchvision::nms does not exist" in capsys.readouterr().err


def test_a_device_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--device", "cuda:99"]) == 2
    assert "'cuda:99' is not available" in capsys.readouterr().err
