from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tiny_run import write_dataset

from detector.config import InputConfig
from detector.datasets.dataset import DetectionDataset, make_dataset
from detector.datasets.formats.contents import Contents
from detector.datasets.formats.open_dataset import open_dataset
from detector.datasets.formats.parsing import parse
from detector.training.report import samples
from detector.training.report.logs import RunLog
from detector.training.report.samples import picture_name, sample_pictures, write_samples


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
        write_samples(tmp_path / "samples", dataset, detections, 4, 1, log)
    assert drawn == [[0.9, 0.5], []]
    assert [path.name for path in sample_pictures(tmp_path / "samples")] == ["1.jpg", "2.jpg"]


def test_half_of_them_are_the_worst_and_those_of_before_are_gone(tmp_path: Path) -> None:
    words = dict(word.split("=") for word in write_dataset(tmp_path / "data", val=5))
    dataset = open_dataset("coco", words["data.val_annotations"], words["data.val_images"])
    tags: list[tuple[int, str]] = []
    with RunLog(tmp_path, rank=0) as log:
        log.picture = lambda iteration, name, _image: tags.append((iteration, name))  # type: ignore[method-assign]
        write_samples(tmp_path / "samples", dataset, [], 4, 1, log, worst=[4, 2, 3])
        write_samples(tmp_path / "samples", dataset, [], 4, 2, log, worst=[2])
    assert tags == [
        *((1, name) for name in ("samples/1", "samples/5", "worst/4", "worst/2")),
        *((2, name) for name in ("samples/1", "samples/5", "worst/2")),
    ]
    names = [str(path.relative_to(tmp_path / "samples")) for path in sample_pictures(tmp_path / "samples")]
    assert names == ["1.jpg", "5.jpg", "worst/2.jpg"]


def test_a_picture_that_cannot_be_read_or_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = dict(word.split("=") for word in write_dataset(tmp_path / "data", val=3))
    dataset = open_dataset("coco", words["data.val_annotations"], words["data.val_images"])
    (tmp_path / "data/val/1.png").unlink()
    (tmp_path / "samples/2.jpg").mkdir(parents=True)
    with RunLog(tmp_path, rank=0) as log:
        write_samples(tmp_path / "samples", dataset, [], 8, 1, log)
    shown = capsys.readouterr().out
    assert "no sample picture of 1.png: " in shown
    assert "no sample picture of 2.png: " in shown
    assert cv2.imread(str(tmp_path / "samples/3.jpg")) is not None


def test_pictures_are_read_as_the_network_reads_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = dict(word.split("=") for word in write_dataset(tmp_path / "data", val=1))
    dataset = open_dataset("coco", words["data.val_annotations"], words["data.val_images"])
    with RunLog(tmp_path, rank=0) as log:
        write_samples(tmp_path / "samples", dataset, [], 1, 1, log, settings=InputConfig(max_pixels=9))
    assert "more than the 9 allowed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("cells/plate 7/BloodImage_00012.jpg", "cells_plate_7_BloodImage_00012"),
        ("a\\b.c.png", "a_b.c"),
        ("日本.png", "日本"),
        ("noending", "noending"),
        ("folder.d/x", "folder.d_x"),
        ("../.x.png", "_.x"),
        (".png", "picture"),
        ("First_Batch.png", "First_Batch_7"),
        ("y" * 300 + ".png", "y" * 150),
        ("日" * 90 + ".png", "日" * 50),
    ],
)
def test_names_are_those_of_the_files(file_name: str, name: str) -> None:
    dataset = make_dataset_of([file_name, f"other/{file_name}"])
    taken = {"first_batch"}
    assert picture_name(dataset, 0, taken) == name
    assert taken == {"first_batch", name.lower()}
    assert picture_name(dataset, 0, taken) != name


def make_dataset_of(names: Sequence[str]) -> DetectionDataset:
    """Pictures 7, 8, … of these names, without boxes."""
    images = [{"id": 7 + n, "file_name": name, "width": 9, "height": 9} for n, name in enumerate(names)]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    columns, _ = parse(Contents("made", content))
    return make_dataset(replace(columns, file_names=names), "")
