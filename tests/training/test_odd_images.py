"""A run on a folder of awkward pictures: turned by EXIF, gray, 16 bits, CMYK, of the wrong suffix, cut short."""

import json
from pathlib import Path

from tiny_run import losses, tiny_config

from detector.datasets.pictures.read import ImageError, image_size, read_image
from detector.training.engine import Outcome, train


def is_readable(path: Path) -> bool:
    try:
        read_image(path, bit_depth=16)
    except ImageError:
        return False
    return True


def test_odd_pictures_are_trained_on_and_broken_ones_named(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data/odd_images"
    files = sorted(folder.iterdir())
    broken = [path.name for path in files if not is_readable(path)]
    assert broken == ["broken.png", "truncated_image.png", "truncated_jpeg.jpg"]
    images, annotations = [], []
    for number, path in enumerate(files, start=1):
        entry = {"id": number, "file_name": path.name}
        if path.name not in broken:
            entry["height"], entry["width"] = image_size(path)
        images.append(entry)
        box = [0, 0, max(1, entry.get("width", 8) // 2), max(1, entry.get("height", 8) // 2)]
        annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": box, "iscrowd": 0})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "odd"}]}
    (tmp_path / "set.json").write_text(json.dumps(content))
    words = [f"data.{split}_annotations={tmp_path}/set.json" for split in ("train", "val")]
    words += [f"data.{split}_images={folder}" for split in ("train", "val")]
    config = tiny_config(words, "train.iterations=16")  # 64 pictures: every one
    assert train(config, tmp_path / "run", device="cpu") == Outcome(16, 0)
    assert list(losses(tmp_path / "run")) == list(range(1, 17))
    lines = (tmp_path / "run/log.txt").read_text().splitlines()
    for name in broken:
        assert len([line for line in lines if name in line and "another picture takes its place" in line]) == 1
        assert len([line for line in lines if name in line and "in which nothing was found" in line]) == 3
    detections = json.loads((tmp_path / "run/evaluation/detections.json").read_text())
    assert {entry["image_id"] for entry in detections} <= {e["id"] for e in images if e["file_name"] not in broken}
