import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated_sets import sound_content, write_json, write_pictures
from PIL import Image

from detector.datasets.checks.across_splits import check_categories, check_leaks
from detector.datasets.checks.examine import Examined, examine
from detector.datasets.checks.pictures import Picture
from detector.datasets.faults import Fault
from detector.errors import UserError


def silent(pictures: Iterable[Picture], total: int) -> Iterable[Picture]:
    assert total >= 0
    return pictures


def look(annotations: Path, images: Path | None, data_format: Any = "coco", **options: Any) -> Examined:
    return examine(data_format, annotations, images, silent, **options)


def names(faults: list[Fault]) -> list[str]:
    return [fault.kind.name for fault in faults]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With set.json and its pictures."""
    write_json(tmp_path / "set.json", sound_content())
    write_pictures(tmp_path / "images", sound_content())
    return tmp_path


def faults(folder: Path, content: dict[str, Any] | None = None, **options: Any) -> list[Fault]:
    if content is not None:
        write_json(folder / "set.json", content)
    return look(folder / "set.json", folder / "images", **options).faults


@pytest.mark.parametrize("workers", [1, 3])
def test_a_sound_set(folder: Path, workers: int) -> None:
    assert faults(folder, workers=workers) == []


def test_pictures_that_cannot_be_used(folder: Path) -> None:
    (folder / "images/z.png").unlink()
    data = (folder / "images/y/z.png").read_bytes()
    (folder / "images/y/z.png").write_bytes(data[: len(data) // 2])
    (folder / "images/empty.png").write_bytes(b"no picture")
    found = faults(folder)
    assert names(found) == ["missing-picture", "broken-picture", "broken-picture"]
    assert [fault.image_id for fault in found] == [900, 5, 6]
    assert str(found[0]) == f"image 900 (z.png): {folder / 'images/z.png'}"
    assert "y/z.png: cannot be decoded" in found[1].detail
    assert "not a picture of a known format" in found[2].detail
    assert faults(folder, open_files=False) == []


def test_a_folder_in_the_place_of_a_picture(folder: Path) -> None:
    (folder / "images/z.png").unlink()
    (folder / "images/z.png").mkdir()
    assert names(faults(folder)) == ["missing-picture"]


def test_sizes_that_disagree(folder: Path) -> None:
    content = sound_content()
    content["images"][0] |= {"height": 21}
    (fault,) = faults(folder, content)
    assert str(fault) == "image 900 (z.png): stated 30x21, the upright picture has 30x20"
    assert fault.kind.name == "size-differs"


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_sizes_before_exif_turns_the_picture(folder: Path, suffix: str) -> None:
    content = sound_content()
    name = f"turned.{suffix}"
    content["images"][0]["file_name"] = name
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / "images" / name, exif=exif)
    (fault,) = faults(folder, content)
    assert fault.kind.name == "exif-size"
    assert str(fault) == f"image 900 ({name}): stated 30x20, the upright picture has 20x30"
    content["images"][0] |= {"height": 30, "width": 20}
    assert faults(folder, content) == []


def test_real_pictures(shared: Path, tmp_path: Path) -> None:
    odd = shared / "data/odd_images"
    images = [
        {"id": 1, "file_name": "Landscape_6.jpg", "height": 1800, "width": 1200},
        {"id": 2, "file_name": "Landscape_3.jpg", "height": 1200, "width": 1800},
        {"id": 3, "file_name": "truncated_jpeg.jpg", "height": 100, "width": 100},
        {"id": 4, "file_name": "broken.png"},
        {"id": 5, "file_name": "grayscale.jpg", "height": 400, "width": 300},
    ]
    content = sound_content() | {"images": images, "annotations": []}
    found = look(write_json(tmp_path / "set.json", content), odd).faults
    assert [(fault.kind.name, fault.image_id) for fault in found if fault.image_id] == [
        ("exif-size", 1),
        ("broken-picture", 3),
        ("broken-picture", 4),
        ("size-differs", 5),
    ]


def test_unstated_sizes_are_read_and_used(folder: Path) -> None:
    content = sound_content()
    del content["images"][1]["height"]
    content["annotations"][1]["bbox"] = [25, 0, 10, 20]
    assert names(faults(folder, content, open_files=False)) == []
    (fault,) = faults(folder, content)
    assert fault.kind.name == "box-partly-outside"
    assert "in a picture of 30x40" in fault.detail


def test_the_same_picture_twice(folder: Path) -> None:
    content = sound_content()
    content["images"].append({"id": 7, "file_name": "copy.bmp", "height": 20, "width": 30})
    Image.open(folder / "images/z.png").save(folder / "images/copy.bmp")
    (fault,) = faults(folder, content)
    assert (fault.kind.name, fault.image_id) == ("same-picture", 7)
    assert fault.detail == "also in image 900 (z.png)"


def test_pictures_of_equal_bytes_and_another_shape_differ(folder: Path) -> None:
    content = sound_content()
    content["images"] += [
        {"id": 1, "file_name": "a.png", "height": 2, "width": 6},
        {"id": 2, "file_name": "b.png", "height": 6, "width": 2},
    ]
    for image in content["images"][3:]:
        black = np.zeros((image["height"], image["width"], 3), np.uint8)
        Image.fromarray(black).save(folder / "images" / image["file_name"])
    assert faults(folder, content) == []


def test_splits(folder: Path) -> None:
    other = folder / "other"
    other.mkdir()
    shutil.copy(folder / "images/y/z.png", other / "renamed.png")
    content = sound_content()
    content["images"] = [{"id": 1, "file_name": "renamed.png", "height": 40, "width": 30}]
    content["annotations"] = []
    content["categories"][0]["name"] = "other seven"
    second = look(write_json(folder / "other.json", content), other)
    first = look(folder / "set.json", folder / "images")
    images = folder / "images"
    opened = check_leaks(first.columns, images, second.columns, other, first.pictures, second.pictures)
    assert [str(fault) for fault in opened] == [
        f"image 5 (y/z.png): also image 1 (renamed.png) of {folder / 'other.json'}"
    ]
    assert check_leaks(first.columns, images, second.columns, other) == opened
    assert len(check_leaks(first.columns, images, first.columns, images / "y" / "..")) == 3
    assert [fault.detail for fault in check_categories(first.columns, second.columns)] == [
        f"category 7 (seven) is not in {folder / 'other.json'}",
        f"category 7 (other seven) is not in {folder / 'set.json'}",
    ]
    assert check_categories(first.columns, first.columns) == []


def test_no_folder_of_pictures(folder: Path) -> None:
    with pytest.raises(UserError, match="give the folder of the pictures with --images"):
        look(folder / "set.json", None)
    with pytest.raises(UserError, match="nowhere: no such folder of pictures"):
        look(folder / "set.json", folder / "nowhere")
    with pytest.raises(UserError, match="cannot read the annotations"):
        look(folder / "none.json", None, open_files=False)


VOC = """<annotation><filename>{picture}</filename>{size}
<object><name>cat</name><difficult>1</difficult><bndbox><xmin>0.1</xmin><ymin>1</ymin><xmax>0.3</xmax><ymax>5</ymax>
</bndbox></object><object>{second}</object></annotation>"""


def test_voc_trees_go_on_after_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write_pictures(tmp_path / "i", {"images": [{"file_name": "one.png", "height": 9, "width": 9}]})
    good = "<name>dog</name><bndbox><xmin>4</xmin><ymin>4</ymin><xmax>2</xmax><ymax>8</ymax></bndbox>"
    (tmp_path / "a/one.xml").write_text(VOC.format(picture="one.png", size="", second=good))
    (tmp_path / "a/two.xml").write_text(VOC.format(picture="sub\\two.jpg", size="", second="<name>dog</name>"))
    (tmp_path / "a/three.xml").write_text("<annotation>")
    found = look(tmp_path / "a", tmp_path / "i", "voc")
    assert found.contents.categories == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert found.contents.annotations[0] == {
        "id": 1,
        "category_id": 1,
        "image_id": 1,
        "bbox": [0.1, 1, 0.2, 4],
        "area": 0.8,
        "iscrowd": 1,
        "difficult": 1,
    }
    assert [(fault.kind.name, fault.where()) for fault in found.faults] == [
        ("unreadable-file", ""),
        ("missing-picture", "image 2 (two.jpg)"),
        ("unreadable-object", "annotation 2 of image 2 (two.jpg)"),
        ("swapped-corners", "annotation 2 of image 1 (one.png)"),
    ]
    assert "three.xml: not an XML file" in found.faults[0].detail
    assert "bndbox/xmin" in found.faults[2].detail


def test_yolo_trees_go_on_after_a_fault(tmp_path: Path) -> None:
    content = {"images": [{"file_name": f"images/{n}.png", "height": 10, "width": 20} for n in "abcd"]}
    write_pictures(tmp_path, content)
    (tmp_path / "images/d.png").write_bytes(b"")
    (tmp_path / "labels").mkdir()
    (tmp_path / "data.yaml").write_text("names: [x, y]")
    (tmp_path / "labels/a.txt").write_text("0 0.5 0.5 0.1 0.3\n\n0 1 2\n9 0.5 0.5 0.1 0.1\n1 0.95 0.5 0.2 0.2\n")
    (tmp_path / "labels/b.txt").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "labels/d.txt").write_text("0 0.5 0.5 0.1 0.3")
    (tmp_path / "labels/e.txt").write_text("")
    found = look(tmp_path / "labels", tmp_path / "images", "yolo")
    assert [row["bbox"] for row in found.contents.annotations] == [[9, 3.5, 2, 3], [17, 4, 4, 2]]
    assert [(fault.kind.name, fault.where()) for fault in found.faults] == [
        ("unreadable-object", "annotation line 3 of image 1 (a.png)"),
        ("unreadable-object", "annotation line 4 of image 1 (a.png)"),
        ("unreadable-file", "image 2 (b.png)"),
        ("broken-picture", "image 4 (d.png)"),
        ("labels-without-picture", "e.txt"),
        ("box-partly-outside", "annotation line 5 of image 1 (a.png)"),
    ]
    with pytest.raises(UserError, match="give the folder of the pictures with --images: YOLO's boxes are fractions"):
        look(tmp_path / "labels", None, "yolo", open_files=False)
