"""Pictures that two splits share."""

import shutil
from pathlib import Path

import folder_layouts as layouts
import pytest

from detector.config import DataConfig
from detector.datasets.checks import across_splits
from detector.datasets.checks.examine import check_before_training
from detector.datasets.layouts.apply import with_layout
from detector.datasets.layouts.recognise import recognise
from detector.datasets.splits import open_train_and_val


def warnings(word: str) -> list[str]:
    return check_before_training(*open_train_and_val(with_layout(DataConfig(), recognise(word))))


def test_copies_under_another_name_are_said_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    word = layouts.ultralytics(tmp_path)
    assert warnings(word) == []
    shutil.copy(tmp_path / "images/train/2.png", tmp_path / "images/val/copy.png")
    shutil.copy(tmp_path / "labels/train/2.txt", tmp_path / "labels/val/copy.txt")
    (said,) = warnings(word)
    assert "1 × in-both-splits: a picture is in both splits" in said
    assert "image 3 (2.png): also image 3 (copy.png)" in said
    content = bytearray((tmp_path / "images/train/2.png").read_bytes())
    content[-30] ^= 1  # of the same size
    (tmp_path / "images/val/copy.png").write_bytes(content)
    assert warnings(word) == []
    shutil.copy(tmp_path / "images/train/2.png", tmp_path / "images/val/copy.png")
    monkeypatch.setattr(across_splits, "MOST_COMPARED", 6)
    assert warnings(word) == []
