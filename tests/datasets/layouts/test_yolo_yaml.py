"""A data set's YAML file whose splits are several folders and lists of pictures, as ultralytics' VOC.yaml has them."""

from pathlib import Path

import folder_layouts as layouts
import pytest

from detector.commands.main import main
from detector.config import DataConfig
from detector.datasets.dataset import DetectionDataset
from detector.datasets.formats.open_dataset import open_dataset
from detector.datasets.layouts.apply import describe_layout, with_layout
from detector.datasets.layouts.recognise import recognise
from detector.datasets.splits import missing_paths, open_split, open_train_and_val
from detector.errors import UserError

NAMES = "names: [cat, dog]\n"


def place(folder: Path, numbers: list[int], labels: Path | None = None) -> None:
    for n in numbers:
        layouts.picture(folder / f"{n}.png", n)
        layouts.line((labels or folder) / f"{n}.txt", n)


def cameras(root: Path) -> Path:
    """Folders of pictures in the order c, a, b of a split, with labels in the ways of ultralytics; and a list."""
    place(root / "z/images/c", [5, 4], root / "z/labels/c")  # in the place of the last `images`
    place(root / "images/a/images", [1, 0], root / "images/a/labels")
    place(root / "beside", [2, 3])
    place(root / "more/images", [6, 7, 8], root / "more/labels")
    (root / "more.txt").write_text("more\\images\\8.png\n./more/images/6.png\n")
    place(root / "z/images/v", [100], root / "z/labels/v")
    place(root / "images/w/images", [101], root / "images/w/labels")
    yaml = root / "data.yaml"
    yaml.write_text(f"train: [z/images/c, images/a, beside, more.txt]\nval:\n- z/images/v\n- ./images/w\n{NAMES}")
    return yaml


def numbers_of(dataset: DetectionDataset) -> list[int]:
    """Of the pictures, each of which has its own box."""
    found = []
    for index in range(len(dataset)):
        sample = dataset[index]
        number = int(Path(sample.path).stem)
        x, y, width, height = layouts.box(number)
        assert sample.boxes.round(3).tolist() == [[x, y, x + width, y + height]]
        assert sample.labels.tolist() == [layouts.label(number) + 1]
        assert Path(sample.path).is_file()
        found.append(number)
    return found


def test_folders_and_lists_of_a_split_are_joined_in_their_order(tmp_path: Path) -> None:
    yaml = cameras(tmp_path)
    layout = recognise(tmp_path)
    assert layout.splits == recognise(yaml).splits
    data = with_layout(DataConfig(), layout)
    assert data.train_annotations == f"{yaml}#train"
    assert missing_paths(data) == []
    train, val = open_train_and_val(data)
    assert numbers_of(train) == [4, 5, 0, 1, 2, 3, 8, 6]
    assert [train.file_name(index) for index in (0, 2, 4, 6)] == [
        "z/images/c/4.png", "images/a/images/0.png", "beside/2.png", "more/images/8.png",
    ]  # fmt: skip
    assert val is not None
    assert numbers_of(val) == [100, 101]
    said = describe_layout(layout)
    assert "the train split is 4 places, joined: z/images/c, images/a, beside, more.txt" in said
    assert "the val split is 2 places, joined: z/images/v, ./images/w" in said


def test_places_may_have_nothing_in_common(tmp_path: Path) -> None:
    place(tmp_path / "one/images", [0], tmp_path / "one/labels")
    place(tmp_path / "two/images", [1], tmp_path / "two/labels")
    (tmp_path / "sets").mkdir()
    file = tmp_path / "sets" / "data.yaml"
    one = tmp_path / "one/images"
    file.write_text(f"path: {tmp_path}\ntrain: [two/images, {one}]\nval: {one}\n{NAMES}")
    data = with_layout(DataConfig(), recognise(file))
    assert numbers_of(open_split(data, "train")) == [1, 0]
    assert numbers_of(open_split(data, "val")) == [0]


def test_a_place_that_is_not_there_is_refused_by_its_name(tmp_path: Path) -> None:
    yaml = cameras(tmp_path)
    (tmp_path / "nothing").mkdir()
    text = yaml.read_text()
    for before, after, message in (
        ("z/images/c", "z/images/gone", r"data\.yaml: 'z/images/gone', of its train split, is not there"),
        ("./images/w", "gone.txt", r"data\.yaml: 'gone\.txt', of its val split, is not there"),
        ("beside, more.txt", "[beside]", r"data\.yaml: its train has an entry that is no path; write a folder"),
        ("more.txt", "nothing", r"data\.yaml#train: .*nothing has no pictures\. Correct its path, or take it out"),
        ("more.txt", "z/images/c", r"z/images/c/4\.png is twice in .*z/images/c\. Take it"),
        ("more.txt", "z", r"z/images/c/4\.png is both in .*z/images/c and in .*z\. Take it, or the place, out of one"),
        ("z/images/v", "images/../z/images/c", r"'z/images/c', and its val split, 'images/\.\./z/images/c', both lead"),
    ):
        assert before in text
        yaml.write_text(text.replace(before, after))
        with pytest.raises(UserError, match=message):
            open_train_and_val(with_layout(DataConfig(), recognise(yaml)))
    (tmp_path / "more.txt").write_text("more/images/gone.png\n")
    yaml.write_text(text)
    with pytest.raises(UserError, match=r"more\.txt: lists more/images/gone\.png, which is not there"):
        recognise(yaml)
    yaml.write_text(text.replace("val:\n- z/images/v\n- ./images/w", "val: [gone, lost]"))
    (tmp_path / "more.txt").write_text("more/images/8.png\n")
    assert "the val split of" in recognise(yaml).notes[0]  # all of it, as with one folder


def test_a_split_without_any_label_is_refused_and_a_place_without_is_not(tmp_path: Path) -> None:
    yaml = cameras(tmp_path)
    for path in (tmp_path / "beside").glob("*.txt"):
        path.unlink()
    train, _ = open_train_and_val(with_layout(DataConfig(), recognise(yaml)))
    assert train.object_counts().tolist() == [1, 1, 1, 1, 0, 0, 1, 1]
    yaml.write_text(f"train: [beside, beside2]\n{NAMES}")
    layouts.picture(tmp_path / "beside2" / "9.png", 9)
    with pytest.raises(UserError, match=r"beside: none of the 3 pictures in .* has a text file here"):
        open_split(with_layout(DataConfig(), recognise(yaml)), "train")


def test_every_command_takes_such_a_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    yaml = cameras(tmp_path)
    (tmp_path / "beside" / "stray.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    assert main(["check-data", f"data={yaml}", "--sheet", str(tmp_path / "sheets")]) == 2
    said = capsys.readouterr().out
    assert f"train: {yaml}#train (yolo), pictures in {tmp_path}" in said
    assert "labels-without-picture (1)" in said
    assert "stray.txt" in said
    (tmp_path / "beside" / "stray.txt").unlink()
    split = [f"{yaml}#val", "--images", str(tmp_path)]
    assert main(["check-data", *split]) == 0
    assert main(["convert-data", f"{yaml}#train", str(tmp_path / "train.json"), "--from", "yolo", "--to", "coco",
                 "--images", str(tmp_path)]) == 0  # fmt: skip
    assert numbers_of(open_dataset("coco", tmp_path / "train.json", tmp_path)) == [4, 5, 0, 1, 2, 3, 8, 6]
    (tmp_path / "detections.json").write_text("[]")
    capsys.readouterr()
    for words in ([f"data={yaml}"], ["--annotations", *split]):
        assert main(["evaluate", "--detections", str(tmp_path / "detections.json"), *words]) == 0
        assert "AP50" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"has lists of pictures among its places; give .*data\.yaml#train as"):
        main(["check-data", str(yaml), "--images", str(tmp_path)])
    with pytest.raises(UserError, match=r"is not in .*give a folder that is around all its places"):
        main(["check-data", f"{yaml}#train", "--images", str(tmp_path / "z")])


def test_a_test_list_whose_pictures_are_not_there_is_said(tmp_path: Path) -> None:
    """COCO's lists come with the labels, and its test pictures are seldom fetched."""
    layouts.ultralytics_lists(tmp_path)
    (tmp_path / "test.txt").write_text("./images/test2017/1.jpg\n")
    (tmp_path / "data.yaml").write_text((tmp_path / "data.yaml").read_text() + "test: test.txt\n")
    layout = recognise(tmp_path / "data.yaml")
    assert set(layout.splits) == {"train", "val"}
    assert "the test split of" in layout.notes[0]
    assert "images/test2017/1.jpg, which is not there" in layout.notes[0]
