from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tiny_run import write_dataset

from detector.datasets.formats.open_dataset import open_dataset
from detector.training.report import samples
from detector.training.report.logs import RunLog
from detector.training.report.samples import write_samples


def test_detections_of_at_least_half_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = dict(word.split("=") for word in write_dataset(tmp_path / "data", val=2))
    dataset = open_dataset("coco", words["data.val_annotations"], words["data.val_images"])
    detections = [
        {"image_id": 1, "category_id": 3, "bbox": [0.0, 0.0, 9.0, 9.0], "score": score}
        for score in (0.9, 0.5, 0.4999, 0.05)
    ] + [{"image_id": 99, "category_id": 3, "bbox": [0.0, 0.0, 9.0, 9.0], "score": 0.9}]
    drawn: list[list[float]] = []

    def sheet(image: np.ndarray, *_truth: object) -> np.ndarray:
        shown: Sequence[Mapping[str, Any]] = _truth[2]  # type: ignore[assignment]
        drawn.append([one["score"] for one in shown])
        return image

    monkeypatch.setattr(samples, "draw_sheet", sheet)
    with RunLog(tmp_path, rank=0) as log:
        write_samples(tmp_path / "samples", dataset, detections, 8, 1, log)
    assert drawn == [[0.9, 0.5], []]
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["image_1.jpg", "image_2.jpg"]


def test_a_picture_that_cannot_be_read_or_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = dict(word.split("=") for word in write_dataset(tmp_path / "data", val=3))
    dataset = open_dataset("coco", words["data.val_annotations"], words["data.val_images"])
    (tmp_path / "data/val/1.png").unlink()
    (tmp_path / "samples/image_2.jpg").mkdir(parents=True)
    with RunLog(tmp_path, rank=0) as log:
        write_samples(tmp_path / "samples", dataset, [], 8, 1, log)
    shown = capsys.readouterr().out
    assert "no sample picture of image 1: " in shown
    assert "no sample picture of image 2: " in shown
    assert cv2.imread(str(tmp_path / "samples/image_3.jpg")) is not None
