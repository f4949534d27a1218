import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.datasets.formats.open_dataset import guess_format, open_dataset, read_contents
from detector.errors import UserError


def write_all(tmp_path: Path) -> None:
    """One picture and one box in the three formats."""
    for folder in ("images", "labels", "xml"):
        (tmp_path / folder).mkdir()
    Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(tmp_path / "images" / "a.png")
    (tmp_path / "classes.txt").write_text("dog\n")
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5")
    corners = "<xmin>10</xmin><ymin>5</ymin><xmax>30</xmax><ymax>15</ymax>"
    (tmp_path / "xml" / "a.xml").write_text(
        f"<annotation><object><name>dog</name><bndbox>{corners}</bndbox></object></annotation>"
    )
    images = [{"id": 1, "file_name": "a.png", "height": 20, "width": 40}]
    annotations = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 5, 20, 10]}]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "dog"}]}
    (tmp_path / "set.json").write_text(json.dumps(content))


def test_the_three_formats_agree(tmp_path: Path) -> None:
    write_all(tmp_path)
    images = tmp_path / "images"
    coco = open_dataset("coco", tmp_path / "set.json", images)
    for data_format, annotations in (("voc", "xml"), ("yolo", "labels")):
        other = open_dataset(data_format, tmp_path / annotations, images, like=coco)
        assert other.categories == coco.categories
        for name, value in vars(coco[0]).items():
            assert np.array_equal(value, getattr(other[0], name)), name
        assert other.to_coco() == coco.to_coco()


def test_a_split_must_be_like_the_other(tmp_path: Path) -> None:
    write_all(tmp_path)
    images = tmp_path / "images"
    voc = open_dataset("voc", tmp_path / "xml", images)
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    with pytest.raises(UserError, match=r"have different categories: only .*labels has 2 cat"):
        open_dataset("yolo", tmp_path / "labels", images, like=voc)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    write_all(tmp_path)
    with pytest.raises(UserError, match=r"data\.format=tfrecord: choose coco, voc or yolo"):
        open_dataset("tfrecord", tmp_path / "set.json", tmp_path / "images")
    with pytest.raises(UserError, match="none: no such folder of pictures"):
        open_dataset("coco", tmp_path / "set.json", tmp_path / "none")


def test_formats_are_known_by_their_content(tmp_path: Path) -> None:
    write_all(tmp_path)
    content = (tmp_path / "set.json").read_bytes()
    for name, data in {
        "set.json": content,
        "ann.JSON": content,
        "ann.coco": content,
        "ann": b"\xef\xbb\xbf \n" + content,
        "wide.json": content.decode().encode("utf-16"),
        "set.json.gz": gzip.compress(content),
    }.items():
        (tmp_path / name).write_bytes(data)
        assert guess_format(tmp_path / name) == "coco", name
        assert len(open_dataset("coco", tmp_path / name, tmp_path / "images")) == 1
    (tmp_path / "train.txt").write_text("images/a.png\n")
    (tmp_path / "names.txt").write_text("a\n")
    (tmp_path / "data.yaml").write_text("names: [dog]")
    for name, expected in {
        "xml": "voc",
        "names.txt": "voc",
        "labels": "yolo",
        "classes.txt": "yolo",
        "data.yaml": "yolo",
        "train.txt": "yolo",
    }.items():
        assert guess_format(tmp_path / name) == expected, name


def test_what_looks_like_no_annotations(tmp_path: Path) -> None:
    write_all(tmp_path)
    (tmp_path / "odd.bin").write_bytes(b"\x00\x01")
    for name, message in {
        "none": "no such file or folder of annotations",
        "odd.bin": "is neither JSON nor a list or YAML file",
        "images/a.png": "is neither JSON",
        "xml/a.xml": "is the file of one picture; give the folder",
    }.items():
        with pytest.raises(UserError, match=message):
            guess_format(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xml", b"<?xml version='1.0'?><annotations><image id='0'/></annotations>", "is CVAT's own XML"),
        ("a.json", b'{"version": "5", "shapes": [{"label": "cat"}]}', "is LabelMe's JSON"),
        ("a.json", b'[{"id": 1, "annotations": [{"result": []}]}]', "is Label Studio's own JSON"),
        ("a.csv", b"ImageID,Source,LabelName,Confidence\n", "is Open Images' CSV"),
        ("a.zip", b"PK\3\4", "is an archive; unpack it"),
    ],
)
def test_files_of_others_are_refused_by_their_name_whatever_they_are_given_as(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    for data_format in ("coco", "voc", "yolo"):
        with pytest.raises(UserError, match=message):
            read_contents(data_format, tmp_path / name, tmp_path)


def test_files_that_are_no_set_of_their_format_are_said_to_be_so(tmp_path: Path) -> None:
    for name, data_format, message in (
        ("one.xml", "voc", "is the file of one picture; give the folder"),
        ("data.yaml", "voc", r"is no list of names \(\.txt\); give one, or the folder"),
        ("one.xml", "yolo", "is neither a YAML file nor a list of class names"),
    ):
        (tmp_path / name).write_text("<annotation/>")
        with pytest.raises(UserError, match=message):
            read_contents(data_format, tmp_path / name, tmp_path)
