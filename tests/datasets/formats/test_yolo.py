from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.datasets.formats.open_dataset import open_dataset
from detector.errors import UserError


def tree(tmp_path: Path, labels: dict[str, str | None], names: str | None = "names: [cat, dog]") -> tuple[Path, Path]:
    """`images/` with a 40×20 picture for each name, `labels/` with these texts, and `data.yaml`."""
    for name, text in labels.items():
        picture = tmp_path / "images" / f"{name}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(picture)
        if text is not None:
            path = tmp_path / "labels" / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if names is not None:
        (tmp_path / "data.yaml").write_text(names)
    return tmp_path / "labels", tmp_path / "images"


def test_fractions_become_pixels(tmp_path: Path) -> None:
    polygon = "0 0.1 0.2 0.5 0.1 0.3 0.9\n"
    labels, images = tree(tmp_path, {"b/x": "1 0.5 0.5 0.25 0.5\n\n" + polygon, "a": "", "c": None})
    data = open_dataset("yolo", labels, images)
    assert [category.id for category in data.categories.categories] == [1, 2]
    assert data.categories.names == ["cat", "dog"]
    assert [data.file_name(index) for index in range(3)] == ["a.png", "b/x.png", "c.png"]
    sample = data[1]
    assert (sample.image_id, sample.size) == (2, (20, 40))
    np.testing.assert_allclose(sample.boxes, [[15, 5, 25, 15], [4, 2, 20, 18]], rtol=1e-12)
    assert sample.labels.tolist() == [2, 1]
    assert data.object_counts().tolist() == [0, 2, 0]


def test_fractions_survive_a_round_trip(tmp_path: Path) -> None:
    given = np.random.default_rng(0).uniform(0.2, 0.3, (50, 4))
    text = "\n".join("0 " + " ".join(repr(float(value)) for value in row) for row in given)
    labels, images = tree(tmp_path, {"a": text})
    boxes = open_dataset("yolo", labels, images)[0].boxes / (40, 20, 40, 20)
    back = np.hstack(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]))
    np.testing.assert_allclose(back, given, rtol=1e-14)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("data.yaml", "path: x\nnc: 2\nnames:\n  0: cat\n  1: dog\n"),
        ("data.yaml", "names: ['cat', 'dog']"),
        ("classes.txt", "cat\ndog\n"),
        ("labels/classes.txt", "cat\r\ndog"),
    ],
)
def test_class_names(tmp_path: Path, file: str, text: str) -> None:
    labels, images = tree(tmp_path, {"a": "1 0.5 0.5 0.25 0.5"}, names=None)
    (tmp_path / file).write_text(text)
    for annotations in (labels, tmp_path / file):
        data = open_dataset("yolo", annotations, images)
        assert data.categories.names == ["cat", "dog"]
        assert data[0].labels.tolist() == [2]


def test_more_than_ten_numbered_names(tmp_path: Path) -> None:
    names = "names: {" + ", ".join(f"{number}: class{number}" for number in range(12)) + "}"
    labels, images = tree(tmp_path, {"a": "11 0.5 0.5 0.25 0.5"}, names)
    assert open_dataset("yolo", labels, images).categories.name_of(12) == "class11"


def test_labels_among_the_pictures(tmp_path: Path) -> None:
    labels, images = tree(tmp_path, {"a": "0 0.5 0.5 0.25 0.5"})
    (labels / "a.txt").rename(images / "a.txt")
    labels.rmdir()
    assert len(open_dataset("yolo", tmp_path / "data.yaml", images)[0].boxes) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0.5 0.5 0.5", r"a\.txt line 1: has 4 numbers; expected class x_center"),
        ("\n0 0.5 0.5 0.5 0.5 0.9", r"a\.txt line 2: has 6 numbers"),
        ("cat 0.5 0.5 0.5 0.5", "line 1: 'cat 0.5 0.5 0.5 0.5' are not numbers only"),
        ("2 0.5 0.5 0.5 0.5", r"class 2 is not in 0\.\.1"),
        ("-1 0.5 0.5 0.5 0.5", r"class -1 is not in 0\.\.1"),
        ("0.5 0.5 0.5 0.5 0.5", "class 0.5 is not in"),
        ("0 20 10 5 5", "20 is not a fraction of the picture; divide pixels"),
        ("0 nan 0.5 0.5 0.5", r"a coordinate is infinite or not a number \(annotation line 1 of image 1 \(a.png\)"),
        ("0 inf 0.5 0.5 0.5", "inf is not a fraction"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, message: str) -> None:
    labels, images = tree(tmp_path, {"a": text})
    with pytest.raises(UserError, match=message) as caught:
        open_dataset("yolo", labels, images)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (None, "found no class names; put a data.yaml"),
        ("names: {", r"data\.yaml: not valid YAML"),
        ("train: x", r"data\.yaml: has no class names"),
        (
            "names: {1: a, 2: b}",
            r"data\.yaml: the class numbers of names start at 1, and the files count from 0\. Number them 0, 1, 2",
        ),
        ("[]", r"data\.yaml: has no class names"),
    ],
)
def test_class_names_that_are_missing(tmp_path: Path, names: str | None, message: str) -> None:
    deep = tmp_path / "1" / "2" / "3"  # so that no other test's file lies above
    labels, images = tree(deep, {"a": "0 0.5 0.5 0.5 0.5"}, names)
    with pytest.raises(UserError, match=message):
        open_dataset("yolo", labels, images)


def test_folders_that_do_not_belong_together(tmp_path: Path) -> None:
    labels, images = tree(tmp_path, {"a": "0 0.5 0.5 0.5 0.5"})
    with pytest.raises(UserError, match="no such file or folder"):
        open_dataset("yolo", tmp_path / "none", images)
    with pytest.raises(UserError, match="no such folder"):
        open_dataset("yolo", labels, tmp_path / "none")
    (labels / "a.txt").rename(labels / "b.txt")
    with pytest.raises(UserError, match=r"none of the 1 pictures in .* has a text file here"):
        open_dataset("yolo", labels, images)
    (images / "a.png").write_bytes(b"no picture")
    (labels / "b.txt").rename(labels / "a.txt")
    with pytest.raises(UserError, match=r"a\.png: not a picture"):
        open_dataset("yolo", labels, images)


POSE = "0 0.5 0.5 0.2 0.2 0.50 0.42 0.52 0.50"


def test_keypoints_are_not_corners(tmp_path: Path) -> None:
    for text, shape in ((POSE, "[2, 2]"), ("0 0.5 0.5 0.2 0.2 0.50 0.42 1 0.52 0.50 2", "[2, 3]")):
        labels, images = tree(tmp_path, {"a": text}, f"names: [bolt]\nkpt_shape: {shape}")
        np.testing.assert_allclose(open_dataset("yolo", labels, images)[0].boxes, [[16, 8, 24, 12]], rtol=1e-12)


def test_rows_that_may_be_polygons_or_poses_are_refused(tmp_path: Path) -> None:
    labels, images = tree(tmp_path, {"a": "0 0.5 0.5 0.2 0.2\n" + POSE}, "names: [bolt]")
    with pytest.raises(
        UserError, match=r"a\.txt line 2: may be a polygon, or a box and its keypoints; write kpt_shape"
    ):
        open_dataset("yolo", labels, images)
    labels, images = tree(tmp_path, {"a": POSE}, "names: [bolt]\nkpt_shape: null")
    np.testing.assert_allclose(open_dataset("yolo", labels, images)[0].boxes, [[8, 4, 20.8, 10]], rtol=1e-12)


@pytest.mark.parametrize("where", ["train.txt", "lists/train.txt"])
def test_a_list_of_pictures_is_read_as_one(tmp_path: Path, where: str) -> None:
    labels, images = tree(tmp_path, {name: f"{number % 2} 0.5 0.5 0.2 0.2" for number, name in enumerate("abcd")}, None)
    (tmp_path / "obj.names").write_text("bolt\nnut\n")
    (tmp_path / where).parent.mkdir(exist_ok=True)
    (tmp_path / where).write_text("images/d.png\nimages/a.png\n")
    assert labels.is_dir()
    data = open_dataset("yolo", tmp_path / where, images)
    assert [data.file_name(index) for index in range(len(data))] == ["d.png", "a.png"]
    assert data.labels.tolist() == [2, 1]


def test_a_darknet_file_is_refused_as_what_it_is(tmp_path: Path) -> None:
    _, images = tree(tmp_path, {"a": "0 0.5 0.5 0.2 0.2"})
    (tmp_path / "obj.data").write_text("classes = 2\ntrain = train.txt\nnames = obj.names\n")
    with pytest.raises(UserError, match=r"obj\.data: is a darknet file that names lists of pictures"):
        open_dataset("yolo", tmp_path / "obj.data", images)


def test_links_to_the_folder_itself_repeat_nothing(tmp_path: Path) -> None:
    labels, images = tree(tmp_path, {"a": "0 0.5 0.5 0.2 0.2", "b": "1 0.5 0.5 0.2 0.2"})
    for number in range(2):
        (images / f"loop{number}").symlink_to(".")
        (labels / f"loop{number}").symlink_to(labels)
    assert len(open_dataset("yolo", labels, images)) == 2


def test_pictures_that_are_not_read_are_said(tmp_path: Path) -> None:
    labels, images = tree(tmp_path, {"a": "0 0.5 0.5 0.2 0.2"})
    (images / "b.jfif").write_bytes((images / "a.png").read_bytes())
    (images / "c.heic").touch()
    data = open_dataset("yolo", labels, images)
    assert [data.file_name(index) for index in range(len(data))] == ["a.png", "b.jfif"]
    assert ["1 × .heic, the first is c.heic" in note for note in data.notes] == [True]
