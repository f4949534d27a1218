import gc
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.datasets.dataset import DetectionDataset
from detector.datasets.formats.open_dataset import open_dataset
from detector.errors import UserError


def content() -> dict[str, Any]:
    """Ids in no order, as other programs write them."""
    return {
        "images": [
            {"id": 900, "file_name": "z.jpg", "height": 20, "width": 30},
            {"id": 5, "file_name": "y/z.jpg", "height": 40, "width": 30},
        ],
        "annotations": [
            {"id": 11, "image_id": 5, "category_id": 90, "bbox": [1, 2, 3, 4], "area": 7.5, "iscrowd": 1},
            {"id": 4, "image_id": 5, "category_id": 3, "bbox": [0.5, 0, 10, 20], "segmentation": [[1, 2, 3, 4, 5, 6]]},
            {"id": 8, "image_id": 900, "category_id": 7, "bbox": [2, 2, 2, 2], "area": None},
        ],
        "categories": [{"id": 7, "name": "seven"}, {"id": 3, "name": "three"}, {"id": 90, "name": "ninety"}],
    }


def read(tmp_path: Path, value: Any, **options: Any) -> DetectionDataset:
    path = tmp_path / "set.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return open_dataset("coco", path, tmp_path, **options)


def test_arbitrary_ids(tmp_path: Path) -> None:
    data = read(tmp_path, content())
    assert [category.id for category in data.categories.categories] == [3, 7, 90]
    assert data.categories.names == ["three", "seven", "ninety"]
    first, second = data[0], data[1]
    assert (first.image_id, first.size, first.path) == (900, (20, 30), str(tmp_path / "z.jpg"))
    assert (first.boxes.tolist(), first.labels.tolist()) == ([[2, 2, 4, 4]], [2])
    assert (second.image_id, second.size) == (5, (40, 30))
    assert second.boxes.tolist() == [[1, 2, 4, 6], [0.5, 0, 10.5, 20]]
    assert second.labels.tolist() == [3, 1]
    assert second.iscrowd.tolist() == [True, False]
    assert data.areas.tolist() == [4, 7.5, 200]
    assert data.annotation_path == str(tmp_path / "set.json")
    assert [a["category_id"] for a in data.to_coco()["annotations"]] == [7, 90, 3]


def test_content_survives_a_round_trip(tmp_path: Path) -> None:
    data = read(tmp_path, content())
    again = read(tmp_path, data.to_coco())
    for index in range(2):
        for name, value in vars(data[index]).items():
            assert np.array_equal(value, getattr(again[index], name)), name
    assert again.areas.tolist() == data.areas.tolist()


def test_unlabelled_and_sparse_files(tmp_path: Path) -> None:
    value = content()
    value["annotations"] = []
    data = read(tmp_path, value)
    assert data[0].boxes.shape == (0, 4)
    value["images"] = [{"id": 1.0, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg", "height": None, "width": 3}]
    value["annotations"] = [{"image_id": 1.0, "category_id": 3, "bbox": [0, 0, 1, 1]}]
    data = read(tmp_path, value)
    assert (data[0].image_id, data[0].size, data[1].size) == (1, None, None)
    assert data[0].labels.tolist() == [1]


def test_real_files(shared: Path) -> None:
    folder = shared / "data" / "bccd"
    for split, images, boxes, dropped in (("train", 205, 2805, 1), ("val", 87, 1138, 1)):
        path = next((folder / "annotations").glob(f"*{split}*.json"))
        data = open_dataset("coco", path, folder / "images")
        assert (len(data), len(data.boxes), data.dropped) == (images, boxes - dropped, dropped)
        assert data.categories.names == ["RBC", "WBC", "Platelets"]
        assert all(Path(data.path(index)).is_file() for index in range(len(data)))
    message = r"annotation 3951 of image BloodImage_00338.jpg has width 0 and height 0"
    with pytest.raises(UserError, match=message):
        open_dataset("coco", path, folder / "images", drop_degenerate_boxes=False)


def change(table: str, place: int, **entries: Any) -> dict[str, Any]:
    value = content()
    value[table][place] = {k: v for k, v in (value[table][place] | entries).items() if v is not ...}
    return value


FAULTS: list[tuple[Any, str]] = [
    ("{", r"not a JSON file \(Expecting property name"),
    ("", "not a JSON file"),
    ("[1]", "not a COCO file, which is an object with images"),
    ("[" * 100_000, "not a JSON file"),
    ({"images": [], "annotations": [], "categories": []}, "lists no images"),
    (content() | {"annotations": [], "categories": []}, "has no classes"),
    (content() | {"images": []} | {"annotations": []}, "lists no images"),
    (
        content() | {"images": []},
        r"image is not in the list \(annotation 11: image_id 5, the first of 3\); add the image",
    ),
    (content() | {"categories": {}}, "has no list of objects named categories"),
    ({k: v for k, v in content().items() if k != "annotations"}, "has no list of objects named annotations"),
    (content() | {"images": ["a.jpg"]}, "has no list of objects named images"),
    (
        change("images", 1, id=...),
        r"no id that is a whole number below 2\^63 \(images\[1\] has id None and file_name 'y/z",
    ),
    (change("images", 1, id="5"), r"\(images\[1\] has id '5' and file_name 'y/z\.jpg'\); give it one \(as a number"),
    (change("images", 1, id=2**80), r"images\[1\] has id 1208925819614629174706176 and file_name"),
    (change("images", 1, id=2**63), r"images\[1\] has id 9223372036854775808 and file_name"),
    (change("images", 1, id=2.0**60), r"images\[1\] has id 1\.152921504606847e\+18 and file_name"),
    (change("images", 1, id=900), r"two images have the same id.* \(image 900 \(y/z\.jpg\): it is z\.jpg before\)"),
    (change("images", 0, file_name=...), r"file_name is missing, or .* \(image 900: file_name None is not text\)"),
    (change("images", 0, file_name=3), "image 900: file_name 3 is not text"),
    (
        change("images", 0, height="20"),
        r"\(image 900 \(z\.jpg\): height '20', width 30\); give the upright picture's size",
    ),
    (change("images", 0, width=-1), r"z\.jpg\): height 20, width -1"),
    (change("images", 0, width=1.5), r"z\.jpg\): height 20, width 1\.5"),
    (change("images", 0, width=float("nan")), r"z\.jpg\): height 20, width nan"),
    (change("annotations", 1, image_id=6), r"image is not in the list \(annotation 4: image_id 6\); add the image"),
    (change("annotations", 1, image_id=True), "annotation 4: image_id True"),
    (
        change("annotations", 2, category_id=8),
        r"annotation 8 of image 900 \(z\.jpg\): category_id 8\); add the category",
    ),
    (change("annotations", 0, category_id=...), r"annotation 11 of image 5 \(y/z\.jpg\): category_id None"),
    (
        change("annotations", 0, bbox=...),
        r"not a list of four numbers .*annotation 11 of image 5 \(y/z\.jpg\): bbox None",
    ),
    (change("annotations", 0, bbox=[1, 2, 3]), r"bbox \[1, 2, 3\]\); correct or remove it"),
    (change("annotations", 0, bbox=[1, 2, 3, "4"]), r"bbox \[1, 2, 3, '4'\]"),
    (change("annotations", 0, bbox=[1, 2, 3, 10**400]), r"bbox \[1, 2, 3, 1000"),
    (
        change("annotations", 0, bbox=[1, 2, 3, float("nan")]),
        r"annotation 11 of image 5 \(y/z\.jpg\): bbox \[1, 2, 3, nan",
    ),
    (change("annotations", 0, bbox=[float("inf"), 2, -float("inf"), 1]), "a coordinate is infinite or not a number"),
    (change("categories", 1, name=...), r"categories\[1\] has id 3 and name None"),
    (change("categories", 1, id=7), r"two categories have the same id \(category 7 \(three\) is seven before\)"),
    (change("categories", 1, id=None), r"categories\[1\] has id None and name 'three'\); give it both"),
]


@pytest.mark.parametrize(("value", "message"), FAULTS)
def test_faults_are_named_in_one_sentence(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, value)
    assert str(caught.value).startswith(str(tmp_path / "set.json"))
    assert "\n" not in str(caught.value)
    assert gc.isenabled()


@pytest.mark.parametrize("value", ["0", "1", "False", "true", "", [0], [], 2, -1, 0.5, float("nan"), {}, 10**400])
def test_crowd_marks_that_are_neither_0_nor_1_are_refused(tmp_path: Path, value: Any) -> None:
    message = r"iscrowd is neither 0 nor 1 \(annotation 4 of image 5 \(y/z\.jpg\): iscrowd .*write it as a number"
    with pytest.raises(UserError, match=message):
        read(tmp_path, change("annotations", 1, iscrowd=value))


@pytest.mark.parametrize(
    ("value", "expected"), [(0, False), (1, True), (False, False), (True, True), (1.0, True), (None, False)]
)
def test_crowd_marks(tmp_path: Path, value: Any, expected: bool) -> None:
    assert read(tmp_path, change("annotations", 1, iscrowd=value))[1].iscrowd.tolist() == [True, expected]


@pytest.mark.parametrize("area", [-1, float("nan"), float("inf"), "200", True, [3], 10**400])
def test_areas_that_cannot_be_are_the_boxs(tmp_path: Path, area: Any) -> None:
    data = read(tmp_path, change("annotations", 0, area=area))
    assert data.areas.tolist() == [4, 12, 200]
    assert "1 × bad-area" in data.notes[0]


def test_exchanged_corners_are_put_in_order_and_said(tmp_path: Path) -> None:
    data = read(tmp_path, change("annotations", 0, bbox=[4, 6, -3, -4]))
    assert data[1].boxes.tolist() == [[1, 2, 4, 6], [0.5, 0, 10.5, 20]]
    assert "1 × swapped-corners" in data.notes[0]


@pytest.mark.parametrize("box", [..., None, []])
def test_a_mask_without_a_box_has_one(tmp_path: Path, box: Any) -> None:
    data = read(tmp_path, change("annotations", 1, bbox=box, segmentation=[[1, 2, 5, 2, 5, 9]]))
    assert data[1].boxes.tolist() == [[1, 2, 4, 6], [1, 2, 5, 9]]
    assert "1 × box-from-mask" in data.notes[0]


def test_file_names_of_other_systems(tmp_path: Path) -> None:
    data = read(tmp_path, change("images", 1, file_name="y\\sub\\z.jpg"))
    assert data.file_name(1) == "y/sub/z.jpg"
    assert "1 × backslashes" in data.notes[0]


OUTSIDE = {
    "../z.jpg": "leads out of its folder",
    "a/../../z.jpg": "leads out of its folder",
    "..": "leads out of its folder",
    "a\\..\\..\\z.jpg": "leads out of its folder",
    "/dev/zero": "is absolute",
    "//server/share/z.jpg": "is absolute",
    "\\\\server\\z.jpg": "is absolute",
    "C:\\pictures\\z.jpg": "is absolute",
    "d:/pictures/z.jpg": "is absolute",
    "~/z.jpg": "starts at a home folder",
    "https://example.org/z.jpg": "is an address",
    "file:///z.jpg": "is an address",
    "": "names no file",
    "  ": "names no file",
    "a\0b": "names no file",
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_file_names_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"image 5: file_name .* {OUTSIDE[name]}"):
        read(tmp_path, change("images", 1, file_name=name))


@pytest.mark.parametrize(
    "name", ["a/../z.jpg", "ü ñ (1).jpg", "..z.jpg", "a..b/z..jpg", "x:y.jpg", "~a.jpg", "-z.jpg", "._z.jpg"]
)
def test_unusual_file_names_are_taken(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, change("images", 1, file_name=name)).file_name(1) == name


def test_the_largest_ids(tmp_path: Path) -> None:
    value = content()
    for table, key in (("images", "id"), ("annotations", "image_id")):
        for row in value[table]:
            row[key] += 2**63 - 901
    data = read(tmp_path, value)
    assert data.image_ids.tolist() == [2**63 - 1, 2**63 - 896]
    assert data.object_counts().tolist() == [1, 1]


def test_compressed_files(tmp_path: Path) -> None:
    path = tmp_path / "set.json.gz"
    path.write_bytes(gzip.compress(json.dumps(content()).encode()))
    assert len(open_dataset("coco", path, tmp_path)) == 2
    for data in (path.read_bytes()[:-9], path.read_bytes()[:20], b"\x1f\x8bno"):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"set\.json\.gz: (not a JSON file|cannot read the annotations)"):
            open_dataset("coco", path, tmp_path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json: cannot read the annotations \(No such file"):
        open_dataset("coco", tmp_path / "none.json", tmp_path)
    with pytest.raises(UserError, match="cannot read the annotations"):
        open_dataset("coco", tmp_path, tmp_path)


@pytest.mark.slow
def test_a_set_as_large_as_coco_is_read_in_seconds(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"{i:012d}.jpg", "height": 480, "width": 640} for i in range(118_287)]
    annotations = [
        {"id": i, "image_id": i % 118_287, "category_id": 1 + i % 80, "bbox": [i % 600, 2.5, 30.25, 40], "area": 9.0}
        for i in range(860_001)
    ]
    categories = [{"id": i, "name": str(i)} for i in range(1, 81)]
    path = tmp_path / "large.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))

    began = time.process_time()
    data = open_dataset("coco", path, tmp_path)
    assert time.process_time() - began < 30
    assert len(data.boxes) == 860_001
