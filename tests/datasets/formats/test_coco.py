import gc
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.datasets.dataset import DetectionDataset
from detector.datasets.formats.coco import read_coco
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
    return read_coco(path, tmp_path, **options)


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
        data = read_coco(path, folder / "images")
        assert (len(data), len(data.boxes), data.dropped) == (images, boxes - dropped, dropped)
        assert data.categories.names == ["RBC", "WBC", "Platelets"]
        assert all(Path(data.path(index)).is_file() for index in range(len(data)))
    message = r"annotation 3951 of image BloodImage_00338.jpg has width 0 and height 0"
    with pytest.raises(UserError, match=message):
        read_coco(path, folder / "images", drop_degenerate_boxes=False)


def change(table: str, place: int, **entries: Any) -> dict[str, Any]:
    value = content()
    value[table][place] = {k: v for k, v in (value[table][place] | entries).items() if v is not ...}
    return value


FAULTS: list[tuple[Any, str]] = [
    ("{", r"not a JSON file \(Expecting property name"),
    ("", "not a JSON file"),
    ("[1]", "not a COCO file, which is an object with images"),
    ("[" * 100_000, "not a JSON file"),
    ({"images": [], "annotations": [], "categories": []}, "lists no categories"),
    (content() | {"images": []} | {"annotations": []}, "lists no images"),
    (content() | {"images": []}, "names image_id 5, which is not among images"),
    (content() | {"categories": {}}, "has no list of objects named categories"),
    ({k: v for k, v in content().items() if k != "annotations"}, "has no list of objects named annotations"),
    (content() | {"images": ["a.jpg"]}, "has no list of objects named images"),
    (change("images", 1, id=...), r"images\[1\] has no id\. Add it"),
    (change("images", 1, id="5"), r"images\[1\] \(id '5'\) has id '5', which is not a whole number"),
    (change("images", 1, id=2**80), "which is not a whole number"),
    (change("images", 1, id=900), "id 900 stands 2 times in images"),
    (change("images", 0, file_name=...), r"images\[0\] \(id 900\) has no file_name"),
    (change("images", 0, file_name=3), "has file_name 3"),
    (change("images", 0, height="20"), "has height '20' and width 30; give whole pixels, or neither"),
    (change("images", 0, width=-1), "has height 20 and width -1"),
    (change("images", 0, width=1.5), "has height 20 and width 1.5"),
    (change("images", 0, width=float("nan")), "has height 20 and width nan"),
    (change("annotations", 1, image_id=6), r"annotations\[1\] \(id 4\) names image_id 6, which is not among images"),
    (change("annotations", 1, image_id=True), "has image_id True"),
    (change("annotations", 2, category_id=8), r"\(id 8\) names category_id 8, which is not among categories"),
    (change("annotations", 0, category_id=...), r"annotations\[0\] \(id 11\) has no category_id"),
    (change("annotations", 0, bbox=...), "has no bbox"),
    (change("annotations", 0, bbox=[1, 2, 3]), r"has bbox \[1, 2, 3\], which is not four numbers"),
    (change("annotations", 0, bbox=[1, 2, 3, "4"]), "which is not four numbers"),
    (change("annotations", 0, bbox=[1, 2, 3, 10**400]), "which is not four numbers"),
    (change("annotations", 0, bbox=[1, 2, 3, float("nan")]), "annotation 11 of image y/z.jpg has a coordinate that"),
    (change("annotations", 0, bbox=[float("inf"), 2, -float("inf"), 1]), "is not a finite number"),
    (change("categories", 1, name=...), r"categories\[1\] \(id 3\) has no name"),
    (change("categories", 1, id=7), "id 7 stands 2 times in categories"),
    (change("categories", 1, id=None), "has id None, which is not a whole number"),
]


@pytest.mark.parametrize(("value", "message"), FAULTS)
def test_faults_are_named_in_one_sentence(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, value)
    assert str(caught.value).startswith(str(tmp_path / "set.json"))
    assert "\n" not in str(caught.value)
    assert gc.isenabled()


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json: cannot read the annotations \(No such file"):
        read_coco(tmp_path / "none.json", tmp_path)
    with pytest.raises(UserError, match="cannot read the annotations"):
        read_coco(tmp_path, tmp_path)


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
    data = read_coco(path, tmp_path)
    assert time.process_time() - began < 30
    assert len(data.boxes) == 860_001
