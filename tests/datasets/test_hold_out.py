import json
from pathlib import Path

import folder_layouts as layouts
import numpy as np
import pytest

from detector.config import DataConfig
from detector.datasets.dataset import DetectionDataset
from detector.datasets.formats.open_dataset import open_dataset
from detector.datasets.hold_out import hold_out, subset
from detector.datasets.splits import open_split
from detector.errors import UserError
from detector.evaluation.ground_truth import ground_truth_of


def flat(folder: Path, numbers: list[int], names: dict[int, str] | None = None) -> DetectionDataset:
    """A COCO set of these pictures, under other file names where they are given."""
    for n in numbers:
        layouts.picture(folder / f"{n}.png", n)
    layouts.coco(folder / "a.json", numbers)
    if names:
        content = json.loads((folder / "a.json").read_text())
        for image in content["images"]:
            name = names.get(image["id"], image["file_name"])
            (folder / image["file_name"]).rename(folder / name)
            image["file_name"] = name
        (folder / "a.json").write_text(json.dumps(content))
    return open_dataset("coco", folder / "a.json", folder)


def ids(dataset: DetectionDataset) -> set[int]:
    return set(dataset.image_ids.tolist())


def test_every_picture_is_on_one_side_with_its_boxes(tmp_path: Path) -> None:
    whole = flat(tmp_path, list(range(20)))
    train, val = hold_out(whole, 0.2, 0)
    assert (len(train), len(val)) == (16, 4)
    assert ids(train) | ids(val) == set(range(20))
    for part in (train, val):
        for index in range(len(part)):
            sample = part[index]
            x, y, width, height = layouts.box(sample.image_id)
            assert sample.boxes.tolist() == [[x, y, x + width, y + height]]
            assert Path(sample.path).name == f"{sample.image_id}.png"
    assert set(ground_truth_of(val).image_ids.tolist()) == ids(val)
    assert len(subset(whole, np.empty(0, np.int64))) == 0


def test_the_side_is_the_pictures_own(tmp_path: Path) -> None:
    first = hold_out(flat(tmp_path / "a", list(range(20))), 0.2, 0)[1]
    renamed = {n: f"z{20 - n}.png" for n in range(20)}
    again = hold_out(flat(tmp_path / "b", list(range(19, -1, -1)), renamed), 0.2, 0)[1]
    assert ids(first) == ids(again)
    other_seed = hold_out(flat(tmp_path / "c", list(range(20))), 0.2, 1)[1]
    assert ids(first) != ids(other_seed)
    grown = hold_out(flat(tmp_path / "d", list(range(22))), 0.2, 0)[1]
    assert len(ids(first) - ids(grown)) <= 2


def test_copies_of_a_picture_stay_together(tmp_path: Path) -> None:
    flat(tmp_path, list(range(8)))
    for n in range(4, 8):
        (tmp_path / f"{n}.png").write_bytes((tmp_path / f"{n - 4}.png").read_bytes())
    whole = open_dataset("coco", tmp_path / "a.json", tmp_path)
    for seed in range(5):
        train, val = hold_out(whole, 0.25, seed)
        assert {n % 4 for n in ids(train)}.isdisjoint({n % 4 for n in ids(val)})


def test_one_picture_cannot_be_parted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.hold_out=0"):
        hold_out(flat(tmp_path, [3]), 0.2, 0)


def test_evaluation_opens_the_split_that_training_held_out(tmp_path: Path) -> None:
    whole = flat(tmp_path, list(range(10)))
    data = DataConfig(train_annotations=str(tmp_path / "a.json"), train_images=str(tmp_path), hold_out=0.3)
    train, val = hold_out(whole, 0.3, 0)
    assert ids(open_split(data, "val")) == ids(val)
    assert ids(open_split(data, "train")) == ids(train)
    with pytest.raises(UserError, match="there is no test split"):
        open_split(data, "test")


def test_pictures_that_are_none_are_the_cause(tmp_path: Path) -> None:
    whole = flat(tmp_path, [0, 1, 2])
    for n in range(3):
        (tmp_path / f"{n}.png").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match=r"0\.png: is a pointer of Git LFS"):
        hold_out(whole, 0.2, 0)
