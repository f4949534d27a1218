import copy
import json
from pathlib import Path
from typing import Any

import pytest
from annotated_sets import sound_content, write_pictures

from detector.datasets.checks.examine import read_contents
from detector.datasets.formats.open_dataset import open_dataset
from detector.datasets.formats.write import write_coco, write_voc, write_yolo
from detector.errors import UserError


def plain_content() -> dict[str, Any]:
    """What every format can hold: ids from 1 in order, classes in alphabetical order and used, and decimals."""
    boxes = [[0.1, 0.2, 0.3, 0.7], [1, 2, 3, 4], [29.123456789, 1 / 3, 5e-7, 0.1], [10.1, 3, -2.05, 4], [5, 5, 0, 9]]
    images = [
        {"id": 1, "file_name": "a/1.png", "height": 37, "width": 59},
        {"id": 2, "file_name": "b.png", "height": 8, "width": 8},
        {"id": 3, "file_name": "c.x.png", "height": 53, "width": 41},
    ]
    annotations = [
        {
            "id": number,
            "image_id": 1 if number < 4 else 3,
            "category_id": 2 - number % 2,
            "bbox": box,
            "area": abs(box[2] * box[3]),
            "iscrowd": 0,
        }
        for number, box in enumerate(boxes, start=1)
    ]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "no"}, {"id": 2, "name": "ü"}],
    }


def boxes_of(content: dict[str, Any]) -> list[list[float]]:
    return [row["bbox"] for row in content["annotations"]]


def test_voc_and_back(tmp_path: Path) -> None:
    content = plain_content()
    assert write_voc(tmp_path / "voc", content, "train") == []
    assert sorted(str(path.relative_to(tmp_path / "voc")) for path in (tmp_path / "voc").rglob("*.*")) == [
        "Annotations/a/1.xml",
        "Annotations/b.xml",
        "Annotations/c.x.xml",
        "ImageSets/Main/train.txt",
    ]
    write_pictures(tmp_path / "voc/JPEGImages", content)
    for annotations in ("Annotations", "ImageSets/Main/train.txt"):
        again = read_contents("voc", tmp_path / "voc" / annotations, tmp_path / "voc/JPEGImages").content
        assert again["images"] == content["images"]
        assert again["categories"] == content["categories"]
        assert boxes_of(again) == boxes_of(content)  # to the last bit
        for row, expected in zip(again["annotations"], content["annotations"], strict=True):
            assert row | {"area": None} == expected | {"area": None}


def test_yolo_and_back(tmp_path: Path) -> None:
    content = plain_content()
    assert write_yolo(tmp_path / "yolo", content) == []
    assert (tmp_path / "yolo/labels/b.txt").read_text() == ""
    assert (tmp_path / "yolo/data.yaml").read_text() == "names:\n  0: 'no'\n  1: ü\n"
    write_pictures(tmp_path / "yolo/images", content)
    again = read_contents("yolo", tmp_path / "yolo/labels", tmp_path / "yolo/images").content
    assert again["images"] == content["images"]
    assert again["categories"] == content["categories"]
    content["annotations"][2]["bbox"][1] = 0.333333333  # nine decimals
    assert boxes_of(again) == boxes_of(content)
    assert [row["category_id"] for row in again["annotations"]] == [1, 2, 1, 2, 1]


def test_what_is_written_is_what_training_reads(tmp_path: Path) -> None:
    content = plain_content()
    content["annotations"][3]["bbox"] = [8.05, 3, 2.05, 4]
    write_coco(tmp_path / "set.json", content)
    write_voc(tmp_path / "voc", content, "all")
    write_yolo(tmp_path / "yolo", content)
    write_pictures(tmp_path / "images", content)
    first = open_dataset("coco", tmp_path / "set.json", tmp_path / "images")
    assert (len(first), len(first.boxes), first.dropped) == (3, 4, 1)
    for data_format, path in (("voc", "voc/ImageSets/Main/all.txt"), ("yolo", "yolo/data.yaml")):
        other = open_dataset(data_format, tmp_path / path, tmp_path / "images")
        assert other.categories == first.categories
        assert other.image_ids.tolist() == first.image_ids.tolist()
        assert other.labels.tolist() == first.labels.tolist()
        assert other.boxes == pytest.approx(first.boxes, abs=1e-9)
        assert [other.path(index) for index in range(3)] == [first.path(index) for index in range(3)]


def test_a_dataset_can_be_written(tmp_path: Path) -> None:
    content = plain_content()
    write_pictures(tmp_path, content)
    write_coco(tmp_path / "set.json", content)
    data = open_dataset("coco", tmp_path / "set.json", tmp_path)
    assert write_voc(tmp_path / "voc", data.to_coco(), "all") == []


def test_coco_is_written_as_it_is(tmp_path: Path) -> None:
    content = sound_content() | {"info": {"year": 2017}}
    assert write_coco(tmp_path / "new/set.json", content) == []
    assert json.loads((tmp_path / "new/set.json").read_text()) == content


def rich_content() -> dict[str, Any]:
    content = sound_content() | {"info": {}}
    content["images"][0]["license"] = 3
    content["annotations"][1] |= {"segmentation": [[1, 2, 3, 4, 5, 6]], "difficult": 1}
    content["annotations"][2]["area"] = 1.1
    content["categories"][0]["supercategory"] = "number"
    return content


def test_voc_says_what_it_cannot_hold(tmp_path: Path) -> None:
    content = rich_content()
    before = copy.deepcopy(content)
    assert write_voc(tmp_path / "voc", content, "all") == [
        "1 crowd regions, which are left out",
        "image ids: read again, images are numbered from 1",
        "annotation ids: read again, annotations are numbered from 1",
        "1 masks",
        "1 areas that are not the box's",
        "of images: license",
        "of categories: supercategory",
        "of the file: info",
        "classes without objects: ninety",
        "category ids and their order: read again, classes are numbered from 1 in alphabetical order",
    ]
    assert content == before
    again = read_contents("voc", tmp_path / "voc/ImageSets/Main/all.txt", None).content
    assert [row["file_name"] for row in again["images"]] == ["z.png", "y/z.png", "empty.png"]
    assert boxes_of(again) == [[0.1, 2.3, 0.2, 7.7], [0.5, 0, 10, 20]]
    assert again["annotations"][1]["difficult"] == 1


def test_yolo_says_what_it_cannot_hold(tmp_path: Path) -> None:
    assert write_yolo(tmp_path / "yolo", rich_content()) == [
        "1 crowd regions, which are left out",
        "image ids: read again, images are numbered from 1",
        "annotation ids: read again, annotations are numbered from 1",
        "1 masks",
        "1 areas that are not the box's",
        "of images: license",
        "of annotations: difficult",
        "of categories: supercategory",
        "of the file: info",
        "category ids: read again, classes are numbered from 1 in the same order",
    ]
    assert (tmp_path / "yolo/data.yaml").read_text() == "names:\n  0: three\n  1: seven\n  2: ninety\n"
    assert (tmp_path / "yolo/labels/y/z.txt").read_text() == f"0 {5.5 / 30!r} 0.25 {10 / 30!r} 0.5\n"


def test_names_with_spaces_are_not_listed(tmp_path: Path) -> None:
    """A list of VOC may have a second column."""
    content = plain_content()
    content["images"][0]["file_name"] = "z 1.png"
    losses = write_voc(tmp_path / "voc", content, "all")
    assert losses[0] == "image ids: read again, images are numbered from 1"
    assert not (tmp_path / "voc/ImageSets").exists()


def renamed(**entries: Any) -> dict[str, Any]:
    content = plain_content()
    content["images"][0] |= entries
    return content


REFUSALS = [
    (renamed(file_name="/etc/1.png"), r"/etc/1\.png: the picture lies outside its folder"),
    (renamed(file_name="a/../../1.png"), "the picture lies outside its folder"),
    (renamed(file_name="b.png"), r"b\.png: is listed as two images"),
    (renamed(file_name="b.jpg"), "differ in their suffix only"),
    (renamed(file_name="a\n.png"), r"file name 'a\\n\.png': has control characters"),
    (renamed(file_name="\ud800.png"), r"file name '\\ud800\.png': has control characters"),
]


@pytest.mark.parametrize(("content", "message"), REFUSALS)
def test_refusals(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    for write in (lambda: write_voc(tmp_path / "new", content, "all"), lambda: write_yolo(tmp_path / "new", content)):
        with pytest.raises(UserError, match=message) as caught:
            write()
        assert "\n" not in str(caught.value)
        assert list(tmp_path.iterdir()) == []


def test_a_class_name_that_voc_cannot_hold(tmp_path: Path) -> None:
    content = plain_content()
    content["categories"][0]["name"] = " no"
    with pytest.raises(UserError, match=r"class name ' no': has control characters or spaces around it"):
        write_voc(tmp_path / "voc", content, "all")


def test_boxes_that_yolo_cannot_hold(tmp_path: Path) -> None:
    content = plain_content()
    content["annotations"][3]["bbox"] = [200, 1, 2, 2]
    with pytest.raises(UserError, match=r"annotation 4 of c\.x\.png: 4\.9\d+ is not a fraction of the picture"):
        write_yolo(tmp_path / "yolo", content)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/file").write_text("mine")
    with pytest.raises(UserError, match="old: is there already and not empty"):
        write_yolo(tmp_path / "old", plain_content())
    assert [path.name for path in tmp_path.rglob("*")] == ["old", "file"]
    (tmp_path / "empty").mkdir()
    write_yolo(tmp_path / "empty", plain_content())
    assert (tmp_path / "empty/data.yaml").is_file()


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(UserError, match=r"yolo: cannot write the annotations \(No space left on device\)"):
        write_yolo(tmp_path / "yolo", plain_content())
    assert list(tmp_path.iterdir()) == []
