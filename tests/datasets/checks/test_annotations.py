import math
from pathlib import Path
from typing import Any

import pytest
from annotated_sets import sound_content, write_json, write_pictures

from detector.config import Config
from detector.datasets.checks import examine
from detector.datasets.checks.annotations import check_annotations
from detector.datasets.checks.examine import check_before_training, columns_of_dataset
from detector.datasets.checks.summary import describe_anchors, describe_counts, describe_sizes
from detector.datasets.faults import Fault, by_kind, summarise
from detector.datasets.formats.contents import Contents
from detector.datasets.formats.open_dataset import open_dataset
from detector.datasets.formats.parsing import parse


def check(content: dict[str, Any]) -> list[Fault]:
    columns, faults = parse(Contents("set.json", content))
    return faults + check_annotations(columns)


def names(faults: list[Fault]) -> list[str]:
    return [fault.kind.name for fault in faults]


def changed(table: str, place: int, **entries: Any) -> dict[str, Any]:
    """The sound content with one entry changed; ... removes a key."""
    content = sound_content()
    row = content[table][place]
    content[table][place] = {key: value for key, value in (row | entries).items() if value is not ...}
    return content


def added(table: str, **entries: Any) -> dict[str, Any]:
    content = sound_content()
    content[table].append(entries)
    return content


def test_a_fault_is_one_line_of_bounded_length() -> None:
    (fault,) = check(changed("images", 0, file_name="a\nb.png" * 1000, height=-1))
    assert str(fault).startswith("image 900 (a b.pnga b.png")
    assert len(str(fault)) < 500


def test_a_sound_set_has_no_faults() -> None:
    assert check(sound_content()) == []


# Annotation 4 lies at [0.5, 0, 10, 20] in a picture of 30x40.
BOXES: list[tuple[Any, list[str], str]] = [
    ([0.5, 0, 0, 20], ["zero-size-box"], "bbox [0.5, 0, 0, 20] in a picture of 30x40"),
    ([0, 0, 0, 0], ["zero-size-box"], "bbox [0, 0, 0, 0]"),
    ([10, 20, -5, 3], ["swapped-corners"], "bbox [10, 20, -5, 3]"),
    ([10, 20, 5, -3], ["swapped-corners"], "bbox [10, 20, 5, -3]"),
    ([4, 20, -9, -3], ["swapped-corners", "box-partly-outside"], "bbox [4, 20, -9, -3]"),
    ([-4, 20, -9, -3], ["swapped-corners", "box-outside"], "bbox [-4, 20, -9, -3]"),
    ([30, 0, 5, 5], ["box-outside"], "bbox [30, 0, 5, 5]"),
    ([0, 41, 5, 5], ["box-outside"], ""),
    ([-9, 0, 9, 5], ["box-outside"], ""),
    ([0, -9, 5, 8.5], ["box-outside"], ""),
    ([20, 0, 11, 5], ["box-partly-outside"], ""),
    ([20, 36, 5, 5], ["box-partly-outside"], ""),
    ([-1, 0, 5, 5], ["box-partly-outside"], ""),
    ([0, -1, 5, 5], ["box-partly-outside"], ""),
    ([-0.5, -0.5, 31, 41], [], ""),  # rounding
    ([29, 39, 1, 1], [], ""),
    ([math.nan, 0, 5, 5], ["non-finite-box"], "bbox [nan, 0, 5, 5]"),
    ([0, 0, math.inf, 5], ["non-finite-box"], "bbox [0, 0, inf, 5]"),
    ([0, 0, 5], ["malformed-box"], "bbox [0, 0, 5]"),
    (None, ["malformed-box"], "bbox None"),
    ({}, ["malformed-box"], "bbox {}"),
    ([0, 0, "5", 5], ["malformed-box"], "bbox [0, 0, '5', 5]"),
    ([0, 0, True, 5], ["malformed-box"], ""),
    ([0, 0, 10**400, 5], ["malformed-box"], "..."),
]


@pytest.mark.parametrize(("box", "expected", "detail"), BOXES)
def test_boxes(box: Any, expected: list[str], detail: str) -> None:
    faults = check(changed("annotations", 1, bbox=box))
    assert names(faults) == expected
    for fault in faults:
        assert (fault.image_id, fault.image, fault.annotation, fault.place) == (5, "y/z.png", 4, 1)
        assert detail in fault.detail
        assert str(fault).startswith("annotation 4 of image 5 (y/z.png): bbox ")


def test_boxes_in_a_picture_of_unknown_size_are_judged_at_its_upper_left_edges() -> None:
    for box, expected in (([1000, 0, 5, 5], []), ([-9, 0, 5, 5], ["box-outside"]), ([-1, 0, 5, 5], 1)):
        content = changed("annotations", 1, bbox=box)
        del content["images"][1]["height"]
        assert names(check(content)) == (["box-partly-outside"] if expected == 1 else expected)


OTHERS: list[tuple[dict[str, Any], list[str], str]] = [
    (changed("annotations", 2, id=11), ["duplicate-annotation-id"], "annotation 11 of image 900 (z.png)"),
    (changed("annotations", 1, image_id=7), ["unknown-image"], "annotation 4: image_id 7"),
    (changed("annotations", 1, category_id=8), ["unknown-category", "unused-category"], "y/z.png): category_id 8"),
    (changed("annotations", 1, category_id="3"), ["unknown-category", "unused-category"], "category_id '3'"),
    (changed("annotations", 1, category_id=True), ["unknown-category", "unused-category"], "category_id True"),
    (changed("annotations", 1, category_id=...), ["unknown-category", "unused-category"], "category_id None"),
    (changed("annotations", 1, area=-1), ["bad-area"], "area -1"),
    (changed("annotations", 1, area=math.nan), ["bad-area"], "area nan"),
    (changed("annotations", 1, area="x" * 999), ["bad-area"], "..."),
    (changed("annotations", 1, area=None), [], ""),
    (
        added("annotations", id=12, image_id=5, category_id=3, bbox=[0.5, 0, 10, 20]),
        ["repeated-box"],
        "annotation 12 of image 5",
    ),
    (added("annotations", id=12, image_id=5, category_id=7, bbox=[0.5, 0, 10, 20]), [], ""),
    (added("annotations", id=12, image_id=5, category_id=3, bbox=[0.5, 0, 10, 21]), [], ""),
    (added("annotations", id=12, image_id=5, category_id=3, bbox=[0.5, 0, 10, 20], iscrowd=1), [], ""),
    (added("categories", id=1, name="one"), ["unused-category"], "category 1 (one)"),
    (added("categories", id=7, name="one"), ["duplicate-category-id"], "category 7 (one) is seven before"),
    (added("categories", id=1, name="three"), ["placeholder-category"], "category 1 (three)"),
    (added("categories", id=None, name="one"), ["bad-category-entry"], "categories[3] has id None and name 'one'"),
    (added("categories", id=1), ["bad-category-entry", "unused-category"], "categories[3] has id 1 and name None"),
    (added("images", id=5, file_name="b.png"), ["duplicate-image-id"], "image 5 (b.png): it is y/z.png before"),
    (added("images", id=7, file_name="y/../z.png"), ["listed-twice"], "it is image 900 before"),
    (added("images", id=7), ["bad-file-name"], "image 7: file_name None is not text"),
    (added("images", id=1.5, file_name="b.png"), ["bad-image-entry"], "images[3] has id 1.5 and file_name 'b.png'"),
    (added("images", id=7.0, file_name="b.png"), [], ""),
    (changed("images", 0, height=-1), ["bad-size"], "image 900 (z.png): height -1, width 30"),
    (changed("images", 0, width="30"), ["bad-size"], "height 20, width '30'"),
    (changed("images", 0, width=None), [], ""),
]


@pytest.mark.parametrize(("content", "expected", "text"), OTHERS)
def test_entries_and_references(content: dict[str, Any], expected: list[str], text: str) -> None:
    faults = check(content)
    assert names(faults) == expected
    assert text in " / ".join(map(str, faults))


def test_nothing_at_all() -> None:
    faults = check({"images": [], "annotations": [], "categories": []})
    assert names(faults) == ["empty-table"] * 3


def test_two_faults_of_many_annotations_are_each_named() -> None:
    content = sound_content()
    content["annotations"] += [
        {"id": 100 + i, "image_id": 900, "category_id": 7, "bbox": [i, 0, 0 if i in (3, 7) else 1, 1]} for i in range(9)
    ]
    faults = check(content)
    assert [(fault.kind.name, fault.annotation) for fault in faults] == [("zero-size-box", 103), ("zero-size-box", 107)]
    assert list(by_kind(faults).values()) == [faults]
    (line,) = summarise(faults)
    assert line.startswith("2 × zero-size-box: ")
    assert "(first: annotation 103 of image 900 (z.png)" in line


def test_the_order_of_annotation_rows_does_not_matter() -> None:
    content = sound_content()
    content["annotations"].append({"id": 12, "image_id": 5, "category_id": 3, "bbox": [0.5, 0, 10, 20]})
    content["annotations"].reverse()
    assert [(fault.kind.name, fault.annotation) for fault in check(content)] == [("repeated-box", 4)]


def test_what_training_read_is_checked_without_opening_a_file(tmp_path: Path) -> None:
    content = sound_content()
    content["annotations"] += [
        {"id": 20, "image_id": 900, "category_id": 7, "bbox": [20, 0, 20, 5]},
        {"id": 21, "image_id": 900, "category_id": 7, "bbox": [20, 0, 0, 5]},
    ]
    content["categories"].append({"id": 1, "name": "one"})
    train = open_dataset("coco", write_json(tmp_path / "train.json", content), tmp_path)
    assert names(check_annotations(columns_of_dataset(train))) == ["unused-category", "box-partly-outside"]
    content["images"] = content["images"][1:2]
    content["annotations"] = content["annotations"][:1]
    val = open_dataset("coco", write_json(tmp_path / "val.json", content), tmp_path)
    lines = check_before_training(train, val)
    assert [line.replace(str(tmp_path), "").split(":")[:2] for line in lines] == [
        ["/train.json", " 1 × a box without area inside its picture, left out; faster-rcnn check-data lists them."],
        ["/train.json", " 1 × unused-category"],
        ["/train.json", " 1 × box-partly-outside"],
        ["/val.json", " 1 × empty-table"],
        ["/train.json", " 1 × in-both-splits"],
    ]
    assert "image 900 (z.png): bbox [20, 0, 20, 5] in a picture of 30x20" in lines[2]
    assert "image 5 (y/z.png): also image 5 (y/z.png) of " in lines[4]


def test_sound_data_need_no_warning(tmp_path: Path) -> None:
    write_pictures(tmp_path, sound_content())
    train = open_dataset("coco", write_json(tmp_path / "train.json", sound_content()), tmp_path)
    assert check_before_training(train, None) == []


def test_a_picture_with_very_many_boxes_is_named_with_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examine, "MANY_BOXES", 2)
    content = sound_content()
    content["annotations"] += [
        {"id": 30 + i, "image_id": 5, "category_id": 3, "bbox": [i, 0, 4, 5 + i]} for i in range(3)
    ]
    train = open_dataset("coco", write_json(tmp_path / "train.json", content), tmp_path)
    lines = [line for line in check_before_training(train, None) if "boxes; a step" in line]
    assert len(lines) == 1, check_before_training(train, None)
    assert "y/z.png has 5 boxes" in lines[0]


def examined_alone(path: Path) -> examine.Examined:
    return examine.examine("coco", path, None, lambda pictures, _: pictures, open_files=False)


@pytest.mark.parametrize("table", ["images", "categories"])
def test_boxes_where_no_entry_of_a_table_can_be_read(tmp_path: Path, table: str) -> None:
    content = sound_content()
    for row in content[table]:
        row["id"] = str(row["id"])
    examined = examine.examine(
        "coco", write_json(tmp_path / "set.json", content), None, lambda some, _: some, open_files=False
    )
    found = {fault.kind.name for fault in examined.faults}
    assert {"bad-image-entry" if table == "images" else "bad-category-entry", "empty-table"} <= found
    assert describe_sizes(examined.columns)
    assert describe_anchors(examined.columns, Config())
    assert describe_counts(examined.columns)


def test_boxes_at_the_ends_of_what_floats_hold(tmp_path: Path) -> None:
    """Warnings are errors here."""
    content = sound_content()
    ends = ([1e308] * 4, [0, 0, 1e308, 5e-324], [0, 0, 5e-324, 1e308], [0, 0, 5e-324, 5e-324])
    content["annotations"] = [{"id": n, "image_id": 5, "category_id": 3, "bbox": box} for n, box in enumerate(ends, 1)]
    examined = examine.examine(
        "coco", write_json(tmp_path / "set.json", content), None, lambda some, _: some, open_files=False
    )
    assert describe_sizes(examined.columns)[-1].startswith("height / width: ")
    assert describe_anchors(examined.columns, Config()).startswith("anchors of ")
