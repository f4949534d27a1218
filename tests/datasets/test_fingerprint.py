import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from annotated_sets import sound_content, write_json

from detector.datasets.fingerprint import Fingerprint, describe_change, fingerprint
from detector.datasets.formats.open_dataset import open_dataset


def of(folder: Path, content: dict[str, Any]) -> Fingerprint:
    folder.mkdir(exist_ok=True)
    return fingerprint(open_dataset("coco", write_json(folder / "set.json", content), folder))


def test_it_counts_and_does_not_depend_on_the_folder(tmp_path: Path) -> None:
    first, moved = of(tmp_path / "a", sound_content()), of(tmp_path / "b", sound_content())
    content = sound_content()
    assert (first.pictures, first.boxes) == (len(content["images"]), len(content["annotations"]))
    assert first == moved
    assert describe_change(first, moved) is None


def test_it_is_the_same_on_every_machine(tmp_path: Path) -> None:
    assert of(tmp_path, sound_content()).digest == "efb6942b8bb4b22c498cbb1d99be574e"


def test_it_survives_json(tmp_path: Path) -> None:
    first = of(tmp_path, sound_content())
    assert Fingerprint.from_dict(json.loads(json.dumps(first.to_dict()))) == first


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a coordinate": lambda content: content["annotations"][1]["bbox"].__setitem__(0, 0.25),
    "a category": lambda content: content["annotations"][1].update(category_id=7),
    "a crowd mark": lambda content: content["annotations"][1].update(iscrowd=1),
    "an area": lambda content: content["annotations"][1].update(area=3.5),
    "a file name": lambda content: content["images"][0].update(file_name="other.png"),
    "a size": lambda content: content["images"][0].update(height=21),
    "an image id": lambda content: content["images"].append({"id": 77, "file_name": "more.png"}),
    "the order": lambda content: content["images"].reverse(),
    "a class name": lambda content: content["categories"][0].update(name="other"),
    "a box less": lambda content: content["annotations"].pop(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_shows(tmp_path: Path, change: str) -> None:
    content = copy.deepcopy(sound_content())
    CHANGES[change](content)
    before, after = of(tmp_path / "a", sound_content()), of(tmp_path / "b", content)
    assert before.digest != after.digest
    assert describe_change(before, after) is not None


def test_a_change_is_said_in_numbers() -> None:
    before = Fingerprint(40, 120, "a")
    assert describe_change(before, Fingerprint(25, 80, "b")) == (
        "there were 40 pictures with 120 boxes, and now there are 25 pictures with 80 boxes"
    )
    assert describe_change(before, Fingerprint(40, 120, "b")) == (
        "there are still 40 pictures with 120 boxes, but not the same ones"
    )
