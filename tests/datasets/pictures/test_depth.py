from pathlib import Path

import cv2
import numpy as np
import pytest
from annotated_sets import write_json

from detector.config import Config, InputConfig
from detector.datasets.dataset import DetectionDataset
from detector.datasets.formats.open_dataset import open_dataset
from detector.datasets.loading.loader import evaluation_loader
from detector.datasets.pictures.depth import with_bit_depth


def dataset(folder: Path, pictures: list[np.ndarray]) -> DetectionDataset:
    images = []
    for number, pixels in enumerate(pictures):
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
        images.append({"id": number, "file_name": f"{number}.png", "height": 8, "width": 8})
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    return open_dataset("coco", write_json(folder / "set.json", content), folder)


def picture(largest: int, channels: int = 3) -> np.ndarray:
    return np.full((8, 8, channels), largest, np.uint16 if largest > 255 else np.uint8)


def refuse(message: str) -> None:
    raise AssertionError(message)


def test_a_set_has_the_depth_of_its_deepest_picture(tmp_path: Path) -> None:
    said: list[str] = []
    data = dataset(tmp_path, [picture(255), picture(900, 1), picture(4000), picture(1000)])
    config = with_bit_depth(Config(), data, said.append)
    assert config.input.bit_depth == 12
    assert "16 bits a channel, of which 12 seem to be in use; set input.bit_depth=12" in said[0]
    pixels = [int(batch.pixels.max()) for batch in evaluation_loader(data, config)]
    assert pixels == [255, 900 >> 4, 250, 1000 >> 4]


def test_a_depth_that_is_set_stays(tmp_path: Path) -> None:
    config = Config(input=InputConfig(bit_depth=14))
    assert with_bit_depth(config, dataset(tmp_path, [picture(4000)]), refuse) is config


def test_pictures_of_8_bits_need_none(tmp_path: Path) -> None:
    config = Config()
    data = dataset(tmp_path, [picture(255), picture(3, 1)])
    (tmp_path / "0.png").write_bytes(b"broken")
    assert with_bit_depth(config, data, refuse) is config


@pytest.mark.parametrize("count", [1, 23, 24, 25, 100])
def test_large_sets_are_sampled(tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Path] = []
    monkeypatch.setattr("detector.datasets.pictures.depth.depth_in_use", lambda path, _most: looked.append(path))
    with_bit_depth(Config(), dataset(tmp_path, [picture(255)] * count), refuse)
    assert min(count, 20) <= len(looked) <= 50
