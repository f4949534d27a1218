import json
import logging
from pathlib import Path

import cv2
import pytest
import torch

from detector.datasets.dataset import DetectionDataset
from detector.datasets.formats.open_dataset import open_dataset
from detector.datasets.loading.batch import TrainingBatch
from detector.drawing import mosaic
from detector.structures import ImageBatch, Target
from detector.training.report.first_batch import write_first_batch
from detector.training.report.logs import RunLog


def test_the_boxes_lie_where_the_network_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.full((2, 3, 240, 480), 128, dtype=torch.uint8)
    images = ImageBatch(pixels, [(240, 480), (240, 320)], [(240, 480), (240, 320)], [4, 7])
    box = torch.tensor([[40.0, 60, 200, 180]])
    targets = [Target(boxes=box, labels=torch.tensor([1])), Target(boxes=box[:0], labels=torch.tensor([]).long())]
    dataset = read_set(tmp_path)
    said: list[str] = []
    monkeypatch.setattr(mosaic, "_write", lambda _sheet, text, *_place: said.append(text))
    with RunLog(tmp_path, 0) as log:
        write_first_batch(tmp_path / "first.jpg", [TrainingBatch(0, images, targets, [0, 1])], dataset, log)
    sheet = cv2.imread(str(tmp_path / "first.jpg"))
    assert sheet is not None
    assert sheet.shape[1] > 2 * 480
    tile = sheet[40 : 40 + 240, 8 : 8 + 480].astype(int)
    assert abs(tile[120, 300] - 128).max() < 8  # outside of the box
    assert abs(tile[100:140, 38:43] - 128).max() > 40  # its left edge
    assert said[1:] == ["four.png", "seven.png"]
    assert logging.getLogger("detector").handlers == []


def read_set(folder: Path) -> DetectionDataset:
    """Pictures 7 and 4, which are named."""
    images = [{"id": 7, "file_name": "seven.png"}, {"id": 4, "file_name": "four.png"}]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (folder / "set.json").write_text(json.dumps(content))
    return open_dataset("coco", folder / "set.json", folder)
