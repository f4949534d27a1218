import copy
import math
from typing import Any

import numpy as np
from annotated_sets import sound_content

from detector.datasets import fault_kinds as kinds
from detector.datasets.checks.annotations import check_annotations
from detector.datasets.checks.repair import repair
from detector.datasets.faults import Fault
from detector.datasets.formats.contents import Contents
from detector.datasets.formats.parsing import parse


def fix(
    content: dict[str, Any], further: list[Fault] | None = None, sizes: Any = None
) -> tuple[dict[str, Any], list[str], list[str]]:
    """The fixed contents, what was said of it, and the kinds of what is left."""
    contents = Contents("set.json", copy.deepcopy(content))
    columns, faults = parse(contents)
    faults += [*check_annotations(columns), *(further or [])]
    new, fixed, left = repair(contents, columns, faults, None if sizes is None else np.array(sizes))
    return new, [str(fault) for fault in fixed], [fault.kind.name for fault in left]


def faults_of(content: dict[str, Any]) -> list[str]:
    columns, faults = parse(Contents("set.json", content))
    return [fault.kind.name for fault in faults + check_annotations(columns)]


def box(*values: Any, **further: Any) -> dict[str, Any]:
    return {"id": 50, "image_id": 5, "category_id": 3, "bbox": list(values)} | further


def with_annotations(*rows: dict[str, Any]) -> dict[str, Any]:
    content = sound_content()
    content["annotations"] += rows
    return content


def test_a_sound_set_is_left_alone() -> None:
    content = sound_content() | {"info": {"year": 2017}, "licenses": []}
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4, 5, 6]]
    assert fix(content) == (content, [], [])


def test_unusable_annotations_are_removed() -> None:
    rows = [
        box(0, 0, 0, 5),
        box(40, 0, 5, 5),
        box(0, 0, math.nan, 5),
        box(0, 0, 5),
        box(0, 0, 5, 5, image_id=1),
        box(0.5, 0, 10, 20),
    ]
    for number, row in enumerate(rows):
        row["id"] += number
    new, fixed, left = fix(with_annotations(*rows))
    assert new == sound_content()
    assert len(fixed) == 6
    assert all(line.endswith(" → the annotation is removed") for line in fixed)
    assert left == []


def test_boxes_are_put_in_order_and_cut_off() -> None:
    new, fixed, left = fix(
        with_annotations(
            box(10, 20, -5, 3, id=50, area=15),
            box(4, 35, -9, 8, id=51, area=72),
            box(25, 1, 10, 10, id=52, area=55.5, segmentation=[[1, 2, 3, 4, 5, 6]]),
        )
    )
    first, second, third = new["annotations"][3:]
    assert first["bbox"] == [5, 20, 5, 3]
    assert first["area"] == 15
    assert second["bbox"] == [0, 35, 4, 5]
    assert second["area"] == 20
    assert third["bbox"] == [25, 1, 5, 10]
    assert third["area"] == 55.5  # of the mask
    assert third["segmentation"]
    assert left == []
    assert fixed[0] == (
        "annotation 50 of image 5 (y/z.png): bbox [10, 20, -5, 3] in a picture of 30x40 → bbox [5, 20, 5, 3]"
    )
    assert len(fixed) == 4  # 51 had its corners exchanged, and then reached over the edge
    assert faults_of(new) == []


def test_repeated_ids_of_annotations() -> None:
    new, fixed, _ = fix(with_annotations(box(1, 1, 5, 5, id=11), box(1, 1, 5, 6, id=11)))
    assert [row["id"] for row in new["annotations"]] == [11, 4, 8, 12, 13]
    assert fixed == [
        "annotation 11 of image 5 (y/z.png): now annotation 12",
        "annotation 11 of image 5 (y/z.png): now annotation 13",
    ]


def test_copies_of_entries_go_and_others_stay() -> None:
    content = sound_content()
    content["images"] += [dict(content["images"][1]), {"id": 900, "file_name": "other.png"}]
    content["categories"] += [dict(content["categories"][0]), {"id": 3, "name": "drei"}]
    new, fixed, left = fix(content)
    assert new["images"] == [*sound_content()["images"], {"id": 900, "file_name": "other.png"}]
    assert new["categories"] == [*sound_content()["categories"], {"id": 3, "name": "drei"}]
    assert new["annotations"] == sound_content()["annotations"]
    assert len(fixed) == 2
    assert left == ["duplicate-image-id", "duplicate-category-id"]


def test_unusable_pictures_go_with_their_annotations() -> None:
    broken = Fault(kinds.BROKEN_PICTURE, 5, "y/z.png", None, "cut short", 1)
    missing = Fault(kinds.MISSING_PICTURE, 6, "empty.png", None, "", 2)
    new, fixed, _ = fix(sound_content(), [broken, missing])
    assert [row["id"] for row in new["images"]] == [900]
    assert [row["id"] for row in new["annotations"]] == [8]
    assert fixed[0].startswith("image 5 (y/z.png): cut short → the picture's entry and its annotations are removed")


def test_a_picture_whose_id_is_not_its_own_stays() -> None:
    content = sound_content()
    content["images"].append({"id": 5, "file_name": "other.png"})
    missing = Fault(kinds.MISSING_PICTURE, 5, "other.png", None, "", 3)
    new, _, left = fix(content, [missing])
    assert new["annotations"] == sound_content()["annotations"]
    assert sorted(left) == ["duplicate-image-id", "missing-picture"]


def test_sizes_and_areas() -> None:
    content = sound_content()
    content["images"][0]["height"] = "20"
    content["images"][1]["width"] = -3
    content["annotations"][0]["area"] = math.nan
    new, fixed, _ = fix(content, sizes=[(20, 30), (0, 0), (8, 8)])
    assert new["images"][0] == {"id": 900, "file_name": "z.png", "height": 20, "width": 30}
    assert new["images"][1] == {"id": 5, "file_name": "y/z.png"}
    assert "area" not in new["annotations"][0]
    assert len(fixed) == 3
    assert fix(content)[0]["images"][0] == {"id": 900, "file_name": "z.png"}


def test_what_needs_a_decision_is_left() -> None:
    content = sound_content()
    content["categories"] += [{"id": 1, "name": "seven"}, {"id": 2, "name": "two"}, {"id": 4}]
    content["images"].append({"id": 7, "file_name": "z.png"})
    content["annotations"].append(box(1, 1, 5, 6, category_id=1, id=51))
    content["annotations"].append(box(1, 1, 5, 5, category_id=77))
    expected = copy.deepcopy(content)
    new, fixed, left = fix(content)
    assert new == expected
    assert fixed == []
    assert sorted(left) == [
        "bad-category-entry",
        "listed-twice",
        "repeated-category-name",
        "unknown-category",
        "unused-category",
        "unused-category",
    ]


def test_every_kind_says_what_to_do() -> None:
    assert len({kind.name for kind in kinds.KINDS}) == len(kinds.KINDS)
    constants = {value for value in vars(kinds).values() if isinstance(value, kinds.Kind)}
    assert constants == set(kinds.KINDS)
    assert all(kind.meaning and kind.remedy for kind in kinds.KINDS)
