"""The converting tool: every pair of formats, what it says, and its refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
from annotated_sets import sound_content, write_json, write_pictures

from detector.commands.main import main
from detector.datasets.formats.open_dataset import open_dataset
from detector.errors import UserError

FORMATS = ("coco", "voc", "yolo")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_json(tmp_path / "set.json", sound_content())
    write_pictures(tmp_path / "images", sound_content())
    return tmp_path


def run(*words: object) -> None:
    assert main(["convert-data", *(str(word) for word in words)]) == 0


def annotations(folder: Path, data_format: str) -> Path:
    return {"coco": folder / "new.json", "voc": folder / "voc/Annotations", "yolo": folder / "yolo/labels"}[data_format]


def output(folder: Path, data_format: str) -> Path:
    return folder / "new.json" if data_format == "coco" else folder / data_format


def boxes(folder: Path, data_format: str) -> dict[str, list[tuple[str, list[float]]]]:
    """Class names and boxes by picture, as training reads them."""
    data = open_dataset(data_format, annotations(folder, data_format), folder.parent / "images")
    found = {}
    for index in range(len(data)):
        sample = data[index]
        names = [data.categories.name_of(label) for label in sample.labels.tolist()]
        found[data.file_name(index)] = list(zip(names, sample.boxes.round(9).tolist(), strict=True))
    return found


def test_every_pair_of_formats(folder: Path) -> None:
    content = sound_content()
    content["annotations"][0]["iscrowd"] = 0
    write_json(folder / "set.json", content)
    expected = {
        "z.png": [("seven", [0.1, 2.3, 0.3, 10])],
        "y/z.png": [("ninety", [1, 2, 4, 6]), ("three", [0.5, 0, 10.5, 20])],
        "empty.png": [],
    }
    for first in FORMATS:
        (folder / first).mkdir()
        run(folder / "set.json", output(folder / first, first), "--from", "coco", "--to", first)
        assert boxes(folder / first, first) == expected
        for second in FORMATS:
            target = folder / first / second
            words = (annotations(folder / first, first), output(target, second), "--from", first, "--to", second)
            target.mkdir(parents=True, exist_ok=True)
            if first == second:
                target = folder / first / "again"
                target.mkdir()
                words = (words[0], output(target, second), *words[2:])
            run(*words, "--images", folder / "images")
            found = open_dataset(second, annotations(target, second), folder / "images")
            assert len(found.boxes) == 3
    assert json.loads((folder / "coco/again/new.json").read_text()) == content


def test_it_says_what_was_done_and_what_is_lost(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(folder / "set.json", folder / "yolo", "--from", "coco", "--to", "yolo")
    assert capsys.readouterr().out.splitlines() == [
        f"annotations {folder / 'set.json'} (coco)",
        f"output      {folder / 'yolo'} (yolo)",
        f"wrote {folder / 'yolo'}: 3 images, 3 annotations, 3 categories",
        "  yolo cannot hold 1 crowd regions, which are left out",
        "  yolo cannot hold image ids: read again, images are numbered from 1",
        "  yolo cannot hold annotation ids: read again, annotations are numbered from 1",
        "  yolo cannot hold category ids: read again, classes are numbered from 1 in the same order",
    ]


def test_sizes_come_from_the_pictures_where_they_are_not_stated(folder: Path) -> None:
    content = sound_content()
    for image in content["images"]:
        del image["height"]
    write_json(folder / "set.json", content)
    words = (folder / "set.json", folder / "voc", "--from", "coco", "--to", "voc")
    with pytest.raises(UserError, match=r"set\.json: does not state the size of z\.png; give --images\."):
        run(*words)
    run(*words, "--images", folder / "images")
    assert "<height>40</height>" in (folder / "voc/Annotations/y/z.xml").read_text()


def test_real_data(shared: Path, tmp_path: Path) -> None:
    source, images = shared / "data/bccd/annotations/instances_val.json", shared / "data/bccd/images"
    run(source, tmp_path / "voc", "--from", "coco", "--to", "voc")
    run(tmp_path / "voc/ImageSets/Main/instances_val.txt", tmp_path / "new.json", "--from", "voc", "--to", "coco")
    old, new = json.loads(source.read_text()), json.loads((tmp_path / "new.json").read_text())
    assert [row["file_name"] for row in new["images"]] == [row["file_name"] for row in old["images"]]
    assert len(new["annotations"]) == len(old["annotations"]) == 1138
    places = {row["id"]: place for place, row in enumerate(old["images"], start=1)}
    by_image = sorted(old["annotations"], key=lambda row: places[row["image_id"]])
    assert [row["bbox"] for row in new["annotations"]] == [row["bbox"] for row in by_image]
    assert len(open_dataset("voc", tmp_path / "voc/Annotations", images).boxes) == 1137


def with_faults(**entries: Any) -> dict[str, Any]:
    content = sound_content()
    content["annotations"][1] |= entries
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_faults(bbox=[1, 2, 3]), r"set\.json: bbox is not a list of four numbers .* \(annotation 4 of image 5"),
        (with_faults(bbox=[1, 2, 3, float("inf")]), "a coordinate is infinite or not a number"),
        (
            with_faults(image_id=3),
            r"the annotation's image is not in the list \(annotation 4: image_id 3\); add the image",
        ),
        (sound_content() | {"images": sound_content()["images"] * 2}, "two images have the same id"),
    ],
)
def test_what_could_be_meant_in_two_ways_is_refused(folder: Path, content: dict[str, Any], message: str) -> None:
    write_json(folder / "set.json", content)
    with pytest.raises(UserError, match=message) as caught:
        run(folder / "set.json", folder / "yolo", "--from", "coco", "--to", "yolo")
    assert "\n" not in str(caught.value)
    assert not (folder / "yolo").exists()


def test_refusals(folder: Path) -> None:
    source = folder / "set.json"
    cases: list[tuple[list[object], str]] = [
        ([source, folder / "new", "--from", "coco", "--to", "coco"], r"whose name ends with \.json"),
        ([source, source, "--from", "coco", "--to", "coco"], "would overwrite the input"),
        ([source, folder / "images", "--from", "coco", "--to", "voc"], "images: is there already and not empty"),
        ([folder, folder / "new.json", "--from", "yolo", "--to", "coco"], "with --images: YOLO's boxes are fractions"),
        ([source, folder / "new", "--from", "coco", "--to", "voc", "--images", "none"], "none: no such folder"),
        ([folder / "empty", folder / "new.json", "--from", "voc", "--to", "coco"], "empty: lists no images"),
    ]
    (folder / "empty").mkdir()
    for words, message in cases:
        with pytest.raises(UserError, match=message):
            run(*words)


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["convert-data", "--help"])
    assert caught.value.code == 0
    assert "faster-rcnn convert-data train/labels train.json --from yolo --to coco" in capsys.readouterr().out


@pytest.mark.parametrize("target", ["voc", "yolo", "coco"])
def test_sizes_are_the_pictures_where_these_are_at_hand(
    folder: Path, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = sound_content()
    content["annotations"][0]["iscrowd"] = 0
    expected = boxes_of(content)
    content["images"][0] |= {"height": 40, "width": 15}
    write_json(folder / "set.json", content)
    (folder / "out").mkdir()
    run(
        folder / "set.json",
        output(folder / "out", target),
        "--from",
        "coco",
        "--to",
        target,
        "--images",
        folder / "images",
    )
    assert "  corrected size of z.png: stated 15x40, the upright picture has 30x20\n" in capsys.readouterr().out
    assert boxes(folder / "out", target)["z.png"] == expected


def boxes_of(content: dict[str, Any]) -> list[tuple[str, list[float]]]:
    x, y, width, height = content["annotations"][2]["bbox"]
    return [("seven", [round(value, 9) for value in (x, y, x + width, y + height)])]


def test_what_is_read_otherwise_than_it_stands_is_written_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = sound_content()
    content["images"][1]["file_name"] = "y\\z.png"
    content["annotations"][0] |= {"iscrowd": 0, "area": -5}
    content["annotations"][1]["bbox"] = [10.5, 20, -10, -20]
    del content["annotations"][2]["bbox"]
    content["annotations"][2]["segmentation"] = [[1, 2, 5, 2, 5, 9]]
    write_json(folder / "set.json", content)
    run(folder / "set.json", folder / "new.json", "--from", "coco", "--to", "coco")
    new = json.loads((folder / "new.json").read_text())
    assert [row["bbox"] for row in new["annotations"]] == [[1, 2, 3, 4], [0.5, 0, 10, 20], [1, 2, 4, 7]]
    assert new["images"][1]["file_name"] == "y/z.png"
    assert "area" not in new["annotations"][0]
    assert all(
        set(row) <= set(old) | {"bbox"} for row, old in zip(new["annotations"], content["annotations"], strict=True)
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  corrected ")]
    assert sorted(line.split()[1] for line in lines) == [
        "backslashes:",
        "bad-area:",
        "box-from-mask:",
        "swapped-corners:",
    ]


def test_labels_that_no_picture_could_have_are_refused(folder: Path) -> None:
    content = sound_content()
    content["images"][1]["file_name"] = "C:\\pictures\\z.png"
    write_json(folder / "set.json", content)
    with pytest.raises(UserError, match=r"image 5: file_name 'C:.* is absolute"):
        run(folder / "set.json", folder / "yolo", "--from", "coco", "--to", "yolo")
    assert not (folder / "yolo").exists()


def test_difficult_objects_of_voc_go_to_coco_and_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = sound_content()
    content["annotations"][1]["difficult"] = 1
    write_json(folder / "set.json", content)
    run(folder / "set.json", folder / "first", "--from", "coco", "--to", "voc")
    images = ("--images", folder / "images")
    run(folder / "first/Annotations", folder / "new.json", "--from", "voc", "--to", "coco", *images)
    said = "  1 difficult object: ignored, as in VOC's own scoring: iscrowd 1 and difficult 1"
    assert said in capsys.readouterr().out
    rows = json.loads((folder / "new.json").read_text())["annotations"]
    assert [(row["iscrowd"], row.get("difficult")) for row in rows] == [(1, 1), (0, None)]
    assert open_dataset("coco", folder / "new.json", folder / "images").object_counts().sum() == 1
    run(folder / "new.json", folder / "second", "--from", "coco", "--to", "voc")
    for name in ("first", "second"):
        assert "<difficult>1</difficult>" in (folder / name / "Annotations/y/z.xml").read_text()
    capsys.readouterr()
    run(folder / "new.json", folder / "yolo", "--from", "coco", "--to", "yolo", "--images", folder / "images")
    said = capsys.readouterr().out
    assert "  yolo cannot hold 1 difficult objects, which are left out" in said
    assert "crowd" not in said
