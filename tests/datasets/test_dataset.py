import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated_sets import columns_of

from detector.datasets.dataset import DetectionDataset, check_same_categories, make_dataset
from detector.errors import UserError

NAMES = ["a.jpg", "b/ünï.jpg", "c.jpg"]


def dataset(
    boxes: list[list[float]] | None = None,
    owners: list[int] | None = None,
    drop: bool = True,
    crowd: tuple[int, ...] = (),
    categories: tuple[str, ...] = ("cat", "dog"),
    source: str = "set.json",
    max_dropped: float = 1.0,
) -> DetectionDataset:
    """Three pictures of 100×50 pixels, the last of unknown size. By default the first has a box and the last two."""
    given = np.array([[1, 2, 3, 5], [0, 0, 9, 9], [5, 5, 7.5, 8]] if boxes is None else boxes, np.float64)
    count = len(given)
    given = given.reshape(-1, 4)
    columns = columns_of(
        image_ids=[30, 10, 20],
        names=NAMES,
        sizes=[(50, 100), (100, 50), (0, 0)],
        owners=[2, 0, 2][:count] if owners is None else owners,
        corners=given,
        classes=np.arange(count) % 2,
        iscrowd=np.isin(np.arange(count), crowd),
        areas=np.arange(count) + 0.5,
        categories=list(enumerate(categories, start=1)),
        source=source,
    )
    return make_dataset(columns, "pictures", drop, max_dropped)


def test_samples_have_their_own_boxes() -> None:
    data = dataset()
    assert len(data) == 3
    first, second, third = (data[index] for index in range(3))
    assert (first.image_id, first.size) == (30, (50, 100))
    assert first.path == str(Path("pictures", "a.jpg"))
    assert first.boxes.tolist() == [[0, 0, 9, 9]]
    assert (second.image_id, second.size, second.boxes.shape, second.labels.shape) == (10, (100, 50), (0, 4), (0,))
    assert Path(second.path) == Path("pictures", "b", "ünï.jpg")
    assert third.size is None
    assert third.boxes.tolist() == [[1, 2, 3, 5], [5, 5, 7.5, 8]]
    assert third.labels.tolist() == [1, 1]
    assert third.boxes.dtype == np.float64
    assert [data.file_name(index) for index in range(3)] == NAMES
    for index in (-1, 3):
        with pytest.raises(IndexError):
            data[index]


def test_counts_and_shapes() -> None:
    data = dataset(crowd=(0,))
    assert data.object_counts().tolist() == [1, 0, 1]
    assert data.is_wide().tolist() == [True, False, False]
    assert dataset([]).object_counts().tolist() == [0, 0, 0]


def test_it_can_be_pickled() -> None:
    data = dataset()
    again = pickle.loads(pickle.dumps(data))
    assert [again[index].path for index in range(3)] == [data[index].path for index in range(3)]
    assert again[2].boxes.tolist() == data[2].boxes.tolist()
    assert again.categories == data.categories


def test_to_coco() -> None:
    content = dataset(crowd=(2,)).to_coco()
    assert content["images"] == [
        {"id": 30, "file_name": "a.jpg", "height": 50, "width": 100},
        {"id": 10, "file_name": "b/ünï.jpg", "height": 100, "width": 50},
        {"id": 20, "file_name": "c.jpg"},
    ]
    assert content["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    first, _, last = content["annotations"]
    assert first == {"id": 1, "image_id": 30, "category_id": 2, "bbox": [0, 0, 9, 9], "area": 1.5, "iscrowd": 0}
    assert last == {"id": 3, "image_id": 20, "category_id": 1, "bbox": [5, 5, 2.5, 3], "area": 2.5, "iscrowd": 1}


DEGENERATE = {
    "has width 0 and height 4": [3, 3, 3, 7],
    "has width 4 and height 0": [3, 3, 7, 3],
    "lies outside it": [100, 3, 120, 7],  # the picture is 100 wide
    "lies outside it ": [-9, 3, 0, 7],
}


@pytest.mark.parametrize("fault", DEGENERATE)
def test_boxes_without_area_are_counted_or_refused(fault: str) -> None:
    boxes, owners = [[1, 1, 2, 2], DEGENERATE[fault], [-3, 40, 8, 60]], [0, 0, 0]
    data = dataset(boxes, owners)
    assert data.dropped == 1
    assert data[0].boxes.tolist() == [boxes[0], boxes[2]]  # the last reaches over the border and stays as it is
    assert data[0].labels.tolist() == [1, 1]
    message = rf"^set.json: annotation 101 of image a.jpg {fault.strip()}\. .*drop_degenerate_boxes=true\.$"
    with pytest.raises(UserError, match=message):
        dataset(boxes, owners, drop=False)


def test_pictures_of_unknown_size_have_no_outside_on_the_right() -> None:
    assert dataset([[1000, 1000, 1001, 1001]], [2]).dropped == 0


def test_exchanged_corners_are_put_in_order() -> None:
    data = dataset([[5, 3, 3, 7], [1, 9, 2, 3], [9, 8, 7, 6], [99, 3, 120, -7]], [0, 0, 0, 0])
    assert data.dropped == 0
    assert data[0].boxes.tolist() == [[3, 3, 5, 7], [1, 3, 2, 9], [7, 6, 9, 8], [99, -7, 120, 3]]
    assert dataset([[-9, 3, -2, 7], [-2, 3, -9, 7]], [0, 0]).dropped == 2


def test_many_boxes_without_area_are_refused() -> None:
    boxes = [[1, 1, 2 + n, 2] for n in range(19)] + [[3, 3, 3, 7]]
    assert dataset(boxes, [0] * 20, max_dropped=0.05).dropped == 1
    with pytest.raises(UserError) as caught:
        dataset([*boxes, [100, 3, 120, 7]], [0] * 21, max_dropped=0.05)
    assert str(caught.value) == (
        "set.json: 2 of 21 boxes (9.5%) have no area inside their picture and would be left out, more than "
        "data.max_dropped=0.05 allows; the first: annotation 119 of image a.jpg has width 0 and height 4. Correct them "
        "(faster-rcnn check-data lists them), or raise the limit."
    )
    with pytest.raises(UserError, match=r"1 of 20 boxes \(5\.0%\)"):
        dataset(boxes, [0] * 20, max_dropped=0)


def test_labels_follow_the_order_of_category_ids() -> None:
    columns = columns_of(
        [1],
        ["a"],
        [(9, 9)],
        [0, 0, 0],
        np.array([[1.0, 1, 2, 2]] * 3),
        np.arange(3),
        np.zeros(3, bool),
        np.ones(3),
        [(7, "seven"), (3, "three"), (90, "ninety")],
    )
    data = make_dataset(columns, ".")
    assert data.categories.names == ["three", "seven", "ninety"]
    assert data.labels.tolist() == [2, 1, 3]


def test_empty_sets_are_refused() -> None:
    none = np.zeros(0)
    rest: Any = ([], none.reshape(0, 4), none.astype(int), none.astype(bool), none)
    with pytest.raises(UserError, match=r"x\.json: lists no images"):
        make_dataset(columns_of([], [], [], *rest, [(1, "a")], "x.json"), ".")
    with pytest.raises(UserError, match=r"x\.json: has no classes"):
        make_dataset(columns_of([1], ["a"], [(9, 9)], *rest, [], "x.json"), ".")


def test_splits_with_other_categories_are_refused() -> None:
    check_same_categories(dataset(), dataset())
    with pytest.raises(UserError) as caught:
        check_same_categories(dataset(source="t.json"), dataset(categories=("cat", "cow", "pig"), source="v.json"))
    assert str(caught.value) == (
        "t.json and v.json have different categories: only t.json has 2 dog; only v.json has 2 cow, 3 pig. "
        "Give both the same list."
    )
    with pytest.raises(UserError, match=re.escape("only t.json has 1 cat, 2 dog; only v.json has 1 dog, 2 cat")):
        check_same_categories(dataset(source="t.json"), dataset(categories=("dog", "cat"), source="v.json"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_forked_readers_does_not_grow() -> None:
    """Reading 200,000 annotations copies less than a fifth of what is shared with the parent.

    In a process of its own: in one that has run other tests their threads and the holes in its memory count too.
    """
    script = Path(__file__).with_name("forked_readers.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=300)
    held, by_columns, by_dicts = map(int, done.stdout.split())
    assert by_columns < held / 5
    # The same measure notices the list of dicts that an annotation file is parsed into.
    assert by_dicts > held / 2
