"""Folders as people have them: each is understood, with every box where it is; what is ambiguous is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import folder_layouts as layouts
import numpy as np
import pytest

from detector.config import DataConfig
from detector.datasets.layouts.apply import describe_splits, take_data_word, with_layout
from detector.datasets.layouts.recognise import recognise
from detector.datasets.splits import open_split, open_train_and_val
from detector.errors import UserError
from detector.training.configure import configure


@pytest.mark.parametrize("name", layouts.LAYOUTS)
def test_a_layout_is_understood(tmp_path: Path, name: str) -> None:
    make, data_format, splits = layouts.LAYOUTS[name]
    word = make(tmp_path / "set")
    layout = recognise(word)
    assert layout.format == data_format
    assert tuple(layout.splits) == (splits or ("train",))
    data = with_layout(DataConfig(), layout)
    assert data.hold_out == (0 if splits else 0.2)
    train, val = open_train_and_val(data)
    assert val is not None
    assert train.categories.names == val.categories.names == ["cat", "dog"]
    if splits:
        opened = {"train": train, "val": val, "test": open_split(data, "test")} if "test" in splits else {"val": val}
        for split, dataset in opened.items():
            assert len(dataset) == layouts.COUNTS[split]
    else:
        assert (len(train), len(val)) == (6, 2)
    for index in range(len(val)):
        sample = val[index]
        number = int(Path(sample.path).stem)
        x, y, width, height = layouts.box(number)
        np.testing.assert_allclose(sample.boxes, [[x, y, x + width, y + height]], atol=1e-3)
        assert sample.labels.tolist() == [layouts.label(number) + 1]
        assert Path(sample.path).is_file()
    table = describe_splits(data, {"train": train, "val": val})
    assert f"({data_format})" in table
    assert "2 classes" in table
    assert ("evaluate --split test" in table) == ("test" in splits)


def test_a_folder_around_the_folder_is_the_same_set(tmp_path: Path) -> None:
    layouts.roboflow_coco(tmp_path / "download" / "pets.v1i.coco")
    assert set(recognise(tmp_path / "download").splits) == {"train", "val", "test"}


def test_any_file_of_a_set_stands_for_it(tmp_path: Path) -> None:
    layouts.roboflow_coco(tmp_path / "a")
    layouts.voc_devkit(tmp_path / "b")
    whole = recognise(tmp_path / "a").splits
    assert recognise(tmp_path / "a/train/_annotations.coco.json").splits == whole
    assert recognise(tmp_path / "a/valid/_annotations.coco.json").splits == whole
    main = tmp_path / "b/VOCdevkit/VOC2012/ImageSets/Main/train.txt"
    assert recognise(main).splits == recognise(tmp_path / "b").splits


def test_pictures_of_one_name_in_two_splits_are_told_apart(tmp_path: Path) -> None:
    for split in ("train", "val"):
        layouts.coco(tmp_path / "annotations" / f"{split}.json", [1, 2])
        for n in (1, 2):
            layouts.picture(tmp_path / "images" / split / f"{n}.png", n)
            layouts.picture(tmp_path / "images" / f"{n}.png", n + 50)
    splits = recognise(tmp_path).splits
    assert {split: places.images for split, places in splits.items()} == {
        split: tmp_path / "images" / split for split in ("train", "val")
    }


def test_folders_without_annotations_are_in_nobodys_way(tmp_path: Path) -> None:
    layouts.plain_coco(tmp_path)
    for name in ("train2014", "val2014", "test2017"):
        layouts.picture(tmp_path / name / "x.png", 1)
    assert set(recognise(tmp_path).splits) == {"train", "val"}


def test_paths_of_another_machine_are_found_below_the_file(tmp_path: Path) -> None:
    layouts.roboflow_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(
        "path: /content/pets\ntrain: /content/pets/train/images\nval: D:/pets/valid/images\nnames: [cat, dog]\n"
    )
    splits = recognise(tmp_path / "data.yaml").splits
    assert [place.images for place in splits.values()] == [tmp_path / "train/images", tmp_path / "valid/images"]


def both_valid_and_val(root: Path) -> None:
    layouts.roboflow_voc(root)
    shutil.copytree(root / "valid", root / "val")


def two_formats(root: Path) -> None:
    layouts.roboflow_coco(root)
    layouts.roboflow_yolo(root)


def two_training_files(root: Path) -> None:
    layouts.plain_coco(root)
    layouts.coco(root / "annotations" / "instances_train2014.json", layouts.numbers("train"))


def two_yaml_files(root: Path) -> None:
    layouts.ultralytics(root)
    shutil.copy(root / "pets.yaml", root / "other.yaml")


def two_years(root: Path) -> None:
    layouts.voc_devkit(root)
    shutil.copytree(root / "VOCdevkit/VOC2012", root / "VOCdevkit/VOC2007")


def two_sets(root: Path) -> None:
    layouts.flat_coco(root / "first")
    layouts.flat_voc(root / "second")


def two_whole_files(root: Path) -> None:
    layouts.labels_file(root)
    layouts.coco(root / "more.json", layouts.numbers("all"))


def two_picture_folders(root: Path) -> None:
    layouts.labels_file(root)
    shutil.copytree(root / "data", root / "images")


AMBIGUOUS: dict[Callable[[Path], None], tuple[str, ...]] = {
    both_valid_and_val: ("/val", "/valid"),
    two_formats: ("data.format=coco", "/data.yaml"),
    two_training_files: ("instances_train2017.json", "instances_train2014.json"),
    two_yaml_files: ("data=", "/pets.yaml", "/other.yaml"),
    two_years: ("/VOC2007", "/VOC2012"),
    two_sets: ("/first", "/second"),
    two_whole_files: ("/labels.json", "/more.json"),
    two_picture_folders: ("data.train_images=", "/data", "/images"),
}


@pytest.mark.parametrize("make", AMBIGUOUS)
def test_what_can_mean_several_things_is_refused_with_its_choices(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path)
    with pytest.raises(UserError, match="Choose one: ") as error:
        recognise(tmp_path)
    for choice in AMBIGUOUS[make]:
        assert choice in str(error.value)


def test_each_choice_that_is_named_can_be_taken(tmp_path: Path) -> None:
    two_formats(tmp_path)
    assert take_data_word([f"data={tmp_path}", "data.format=coco"])[1] == recognise(tmp_path, "coco")
    assert recognise(tmp_path / "data.yaml").format == "yolo"
    assert recognise(tmp_path, "coco").splits["val"].images == tmp_path / "valid"


def test_what_is_no_set_is_refused_with_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    layouts.picture(tmp_path / "bare" / "a.png", 1)
    layouts.picture(tmp_path / "table" / "a.png", 1)
    (tmp_path / "table" / "_annotations.csv").write_text("filename,width\n")
    others = {
        "open images/train-annotations-bbox.csv": "ImageID,Source,LabelName,Confidence,XMin\n",
        "kaggle/train.csv": "image_id,bbox\n",
        "labelme/a.json": '{"version": "5.0", "shapes": [{"label": "cat", "points": [[1, 1], [9, 9]]}]}',
        "vgg/via.json": '{"a.png99": {"filename": "a.png", "regions": []}}',
        "studio/project.json": '[{"id": 1, "annotations": [{"result": []}], "data": {"image": "a.png"}}]',
        "kitti/label_2/a.txt": "Car 0.00 0 -1.5 1 2 30 40 1 1 1 1 1 1 1\n",
        "cvat/annotations.xml": "<?xml version='1.0'?><annotations><image id='0' name='a.png'/></annotations>",
        "createml/notes.json": '[{"image": "a.png", "annotations": [{"label": "cat", "coordinates": {"x": 1}}]}]',
        "vott/set.json": '{"assets": {"x": {"asset": {"name": "a.png"}, "regions": []}}}',
        "datumaro/annotations/default.json": '{"info": {}, "categories": {"label": {}}, "items": [{"id": "a"}]}',
        "supervisely/ds/ann/a.png.json": '{"objects": [{"classTitle": "cat", "geometryType": "rectangle"}]}',
        "yolov4/train/_annotations.txt": "a.png 1,2,30,40,0\n",
        "dota/labelTxt/a.txt": "imagesource:x\ngsd:0.1\n1 2 30 2 30 40 1 40 plane 0\n",
        "visdrone/annotations/a.txt": "684,8,273,116,0,0,0,0\n",
        "hugging face/train/metadata.jsonl": '{"file_name": "a.png", "objects": {}}\n',
        "records/a.tfrecord-00000-of-00010": "",
        "words/labels/a.txt": "cat 0.5 0.5 0.1 0.1\n",
        "results/a.json": '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]',
        "panoptic/a.json": '{"images": [], "annotations": [{"segments_info": []}], "categories": []}',
        "headless/a.json": '{"images": [], "annotations": []}',
        "pointer/a.json": "version https://git-lfs.github.com/spec/v1\n",
    }
    for name, content in others.items():
        layouts.picture(tmp_path / Path(name).parts[0] / "images" / "a.png", 1)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "set.zip").write_bytes(b"PK\3\4")
    for name, message in {
        "absent": "no such file or folder",
        "empty": "is empty",
        "bare": "has pictures and no annotations",
        "table": "is a CSV file",
        "open images": "is Open Images' CSV, which is not read; export the set as COCO",
        "kaggle": "is a CSV table",
        "labelme": "is LabelMe's JSON",
        "vgg": "is the VGG annotator's JSON",
        "studio": "is Label Studio's own JSON",
        "kitti": "is KITTI's form",
        "cvat": "annotations.xml: is CVAT's own XML, which is not read; export the set as COCO",
        "cvat/annotations.xml": "is CVAT's own XML",
        "createml": "is Apple's CreateML",
        "vott": "is VoTT's JSON",
        "datumaro": "is Datumaro's JSON",
        "supervisely": "is Supervisely's JSON",
        "yolov4": "is Roboflow's text file for YOLOv3",
        "dota": "is DOTA's form",
        "visdrone": "is MOT's or VisDrone's form",
        "hugging face": "is Hugging Face's metadata.jsonl",
        "records": "is a file of TensorFlow records",
        "words": "whose lines are not YOLO's",
        "results": "is a file of detections",
        "panoptic": "is COCO's panoptic annotations",
        "headless": "is a COCO file without a list of categories; add it",
        "pointer": "is a pointer of Git LFS .* git lfs pull",
        "set.zip": "unpack it",
    }.items():
        with pytest.raises(UserError, match=message):
            recognise(tmp_path / name)
    with pytest.raises(UserError, match="give one set"):
        take_data_word(["data=a", "data=b"])


def test_labels_without_class_names_are_refused(tmp_path: Path) -> None:
    layouts.flat_yolo(tmp_path)
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(UserError, match="found no class names"):
        recognise(tmp_path)


def test_a_yaml_file_that_leads_nowhere_names_what_is_missing(tmp_path: Path) -> None:
    layouts.ultralytics(tmp_path)
    shutil.rmtree(tmp_path / "images" / "test")
    assert "'images/test', is not there" in recognise(tmp_path).notes[0]
    shutil.rmtree(tmp_path / "images" / "train")
    layout = recognise(tmp_path)  # val is there, and can be scored
    assert "'images/train', is not there" in layout.notes[0]
    with pytest.raises(UserError, match="its train split, 'images/train', is not there"):
        layout.require_train()
    shutil.rmtree(tmp_path / "images" / "val")
    with pytest.raises(UserError, match="its train split, 'images/train', is not there"):
        recognise(tmp_path)


def test_splits_that_lead_to_one_folder_are_refused(tmp_path: Path) -> None:
    """Another machine's paths lose their first folders, until only the folder that holds all of them is left."""
    layouts.ultralytics(tmp_path)
    file = tmp_path / "pets.yaml"
    names = "names: [cat, dog]\n"
    file.write_text(f"train: ../train/images\nval: ../valid/images\n{names}")
    with pytest.raises(
        UserError, match=r"its train split, '../train/images', and its val split, '../valid/images', both"
    ):
        recognise(tmp_path)
    file.write_text(f"train: images/train\nval: ../images/train\n{names}")
    with pytest.raises(UserError, match="both lead to"):
        recognise(tmp_path)
    file.write_text(f"train: images/train\nval: images/train\n{names}")  # said by whoever wrote it, and by check-data
    assert set(recognise(tmp_path).splits) == {"train", "val"}


def test_lists_of_one_class_alone_are_said_to_be_unused(tmp_path: Path) -> None:
    layouts.voc_devkit(tmp_path)
    lists = next(tmp_path.rglob("ImageSets/Main"))
    for name in ("train", "val", "trainval"):
        (lists / f"{name}.txt").unlink()
    layout = recognise(lists.parents[1])
    assert set(layout.splits) == {"train"}
    assert "Main: cat_train.txt, cat_val.txt not used" in layout.notes[0]
    assert "the lists that are read are train.txt, val.txt and test.txt there." in layout.notes[0]


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("Training", "Validation", "Testing"),
        ("train2017", "val2017", "test-dev2017"),
        ("train_set", "eval", "test_dev"),
        ("train-images", "dev", "test_images"),
        ("train_2", "valid", "testdev"),
    ],
)
def test_names_of_splits(tmp_path: Path, train: str, val: str, test: str) -> None:
    for split, name in (("train", train), ("val", val), ("test", test)):
        for n in layouts.numbers(split):
            layouts.picture(tmp_path / "images" / name / f"{n}.png", n)
            layouts.line(tmp_path / "labels" / name / f"{n}.txt", n)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    layout = recognise(tmp_path)
    assert {split: place.images.name for split, place in layout.splits.items()} == {
        "train": train, "val": val, "test": test,
    }  # fmt: skip
    assert layout.notes == ()


def test_folders_of_pictures_beside_the_splits_that_are_not_used_are_said(tmp_path: Path) -> None:
    layouts.yolo_without_yaml(tmp_path / "yolo")
    layouts.picture(tmp_path / "yolo/images/extra/9.png", 9)
    (tmp_path / "yolo/images/nothing").mkdir()
    layouts.roboflow_coco(tmp_path / "coco")
    (tmp_path / "coco/valid/_annotations.coco.json").unlink()
    layouts.picture(tmp_path / "coco/docs/9.png", 9)
    for name, folder in (("yolo", "images/extra"), ("coco", "valid")):
        notes = recognise(tmp_path / name).notes
        assert [note.partition(": ")[0] for note in notes] == [str(tmp_path / name / folder)]
        assert "has pictures and is not used: it has no annotations, or its name is of no split" in notes[0]


def test_archives_are_known_by_content_and_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "download").write_bytes(b"PK\3\4")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "set.tar.gz").write_bytes(b"\x1f\x8b")
    for name in ("download", "folder"):
        with pytest.raises(UserError, match=r"(download|set\.tar\.gz): is an archive; unpack it, and give the folder"):
            recognise(tmp_path / name)


def test_labels_that_are_not_there_are_said_where_they_should_be(tmp_path: Path) -> None:
    layouts.ultralytics(tmp_path)
    shutil.rmtree(tmp_path / "labels/val")
    data = with_layout(DataConfig(), recognise(tmp_path))
    with pytest.raises(UserError, match=r"that of 100\.png would be .*/labels/val/100\.txt\. Give them"):
        open_split(data, "val")
    shutil.rmtree(tmp_path / "images/test")
    (tmp_path / "images/test").mkdir()
    data = with_layout(DataConfig(), recognise(tmp_path))
    with pytest.raises(UserError, match=r"lists no images in .*/images/test; check"):
        open_split(data, "test")


def test_text_in_utf_16_is_read(tmp_path: Path) -> None:
    """As PowerShell writes it."""
    layouts.ultralytics_lists(tmp_path / "yolo")
    layouts.roboflow_coco(tmp_path / "coco")
    for path in [path for path in tmp_path.rglob("*.*") if path.suffix in (".yaml", ".txt", ".json")]:
        path.write_bytes(path.read_text().encode("utf-16"))
    for name in ("yolo", "coco"):
        train, val = open_train_and_val(with_layout(DataConfig(), recognise(tmp_path / name)))
        assert val is not None
        assert (train.object_counts().tolist(), val.object_counts().tolist()) == ([1] * 4, [1] * 2)
    (tmp_path / "bad.yaml").write_bytes(b"names: [\xff]\ntrain: x\n")
    with pytest.raises(UserError, match=r"bad\.yaml: cannot read the file, which is not UTF-8 text"):
        recognise(tmp_path / "bad.yaml")


def without_folders(make: Callable[[Path], str]) -> Callable[[Path], str]:
    """A set of which only the folder of val is there."""

    def made(root: Path) -> str:
        make(root)
        for folder in ("train", "test", "images/train", "labels/train"):
            shutil.rmtree(root / folder, ignore_errors=True)
        return str(root)

    return made


def val_in_yaml(root: Path) -> str:
    """A YAML file that names val alone, where nothing else says what val is."""
    for n in layouts.numbers("val"):
        layouts.picture(root / "photos/images" / f"{n}.png", n)
        layouts.line(root / "photos/labels" / f"{n}.txt", n)
    (root / "data.yaml").write_text("val: photos/images\nnames: [cat, dog]\n")
    return str(root / "data.yaml")


def train_lost_in_yaml(root: Path) -> str:
    val_in_yaml(root)
    with (root / "data.yaml").open("a") as file:
        file.write("train: ../train/images\n")
    return str(root / "data.yaml")


def pictures_of_val_alone(root: Path) -> str:
    """COCO's annotations, which are one download, and the pictures of val."""
    layouts.plain_coco(root)
    for path in root.rglob("*.png"):
        if int(path.stem) not in layouts.numbers("val"):
            path.unlink()
    return str(root)


def val_in_darknet(root: Path) -> str:
    layouts.darknet(root)
    data = next(root.glob("*.data"))
    data.write_text("".join(line for line in data.read_text().splitlines(True) if not line.startswith("train")))
    return str(data)


def val_list_of_yolo(root: Path) -> str:
    """val.txt beside images/ and labels/, whose other pictures are in no list."""
    layouts.ultralytics_lists(root)
    for name in ("data.yaml", "train.txt"):
        (root / name).unlink()
    for kind in ("images", "labels"):
        shutil.copytree(root / kind / "both", root / kind, dirs_exist_ok=True)
        shutil.rmtree(root / kind / "both")
    (root / "val.txt").write_text("".join(f"./images/{n}.png\n" for n in layouts.numbers("val")))
    (root / "classes.txt").write_text("cat\ndog\n")
    return str(root)


def val_list_of_voc(root: Path) -> str:
    layouts.voc_devkit(root)
    lists = next(root.rglob("ImageSets/Main"))
    for path in lists.iterdir():
        if path.name != "val.txt":
            path.unlink()
    return str(lists.parents[1])


def annotations_of_val_alone(root: Path) -> str:
    """A devkit's lists, of which only that of val leads to XML files."""
    layouts.voc_devkit(root)
    tree = next(root.rglob("ImageSets")).parent
    for name in ("trainval", "test"):
        (tree / "ImageSets/Main" / f"{name}.txt").unlink(missing_ok=True)
    for n in layouts.numbers("train"):
        (tree / "Annotations" / f"{n}.xml").unlink()
    return str(tree)


def val_folders_of_voc(root: Path) -> str:
    """Annotations/val and images/val."""
    for n in layouts.numbers("val"):
        layouts.picture(root / "images/val" / f"{n}.png", n)
        layouts.xml(root / "Annotations/val" / f"{n}.xml", n)
    return str(root)


VAL_ALONE = {
    without_folders(layouts.roboflow_coco): "Give the folder of the whole set",
    without_folders(layouts.roboflow_voc): "Give the folder of the whole set",
    without_folders(layouts.yolo_without_yaml): "Give the folder of the whole set",
    val_in_yaml: r"Write train: FOLDER, relative to the file, into (it|.*data\.yaml)\.",
    train_lost_in_yaml: r"its train split, '\.\./train/images', is not there\. Correct its path",
    pictures_of_val_alone: r"instances_train2017\.json: its picture 0\.png is in none of",
    val_in_darknet: r"Write train = LIST into (it|.*\.data)\.",
    val_list_of_yolo: r"List its training pictures in .*/train\.txt\.",
    val_list_of_voc: r"List its training pictures in .*/ImageSets/Main/train\.txt\.",
    annotations_of_val_alone: r"Main/train\.txt: its pictures have no annotations, so there is nothing to train on",
    val_folders_of_voc: "Give the folder of the whole set",
}


@pytest.mark.parametrize("make", VAL_ALONE)
def test_a_val_split_alone_is_opened_and_not_trained_on(tmp_path: Path, make: Callable[[Path], str]) -> None:
    word = make(tmp_path)
    for given in {word, str(tmp_path)}:
        layout = recognise(given)
        assert set(layout.splits) == {"val"}
        val = open_split(with_layout(DataConfig(), layout), "val")
        assert [Path(val.path(index)).name for index in range(len(val))] == ["100.png", "101.png"]
        assert val.object_counts().tolist() == [1, 1]
        with pytest.raises(UserError, match=VAL_ALONE[make]) as error:
            configure("quickstart", [f"data={given}"])
        only_val = "has only the val split, so there is nothing to train on"
        assert (only_val in str(error.value)) == (layout.lost_train == "")


@pytest.mark.parametrize("make", [layouts.roboflow_coco, layouts.roboflow_voc, layouts.roboflow_yolo])
def test_the_folder_of_one_split_is_that_split(tmp_path: Path, make: Callable[[Path], str]) -> None:
    make(tmp_path)
    for folder, split in (("valid", "val"), ("test", "test"), ("train", "train")):
        layout = recognise(tmp_path / folder)
        assert set(layout.splits) == {split}
        assert layout.notes == ()  # the folders beside it are no part of what was given
        if split != "train":
            with pytest.raises(UserError, match=f"the folder of the whole set; .*call it something else than {folder}"):
                layout.require_train()


def test_val_in_a_yaml_file_hides_no_folder_of_training_pictures(tmp_path: Path) -> None:
    layouts.ultralytics(tmp_path)
    (tmp_path / "pets.yaml").write_text("val: images/val\nnames: [cat, dog]\n")
    assert set(recognise(tmp_path).splits) == {"train", "val", "test"}
    assert set(recognise(tmp_path / "pets.yaml").splits) == {"val"}


@pytest.mark.parametrize("place", ["images/train/0.png", "train.json", "set.zip"])
def test_a_split_that_is_neither_a_folder_nor_a_list_is_refused(tmp_path: Path, place: str) -> None:
    layouts.ultralytics(tmp_path)
    (tmp_path / "set.zip").write_bytes(b"PK\3\4")
    (tmp_path / "train.json").write_text("{}")
    (tmp_path / "pets.yaml").write_text(f"train: {place}\nnames: [cat, dog]\n")
    with pytest.raises(UserError, match=r"is neither a folder nor a list of pictures \(\.txt\)"):
        recognise(tmp_path / "pets.yaml")


def test_xml_files_without_objects_are_said_to_be_so(tmp_path: Path) -> None:
    layouts.flat_voc(tmp_path)
    for path in tmp_path.rglob("*.xml"):
        path.write_text("<annotation/>")
    with pytest.raises(UserError, match="has no classes; none of its files has an object; check"):
        open_split(with_layout(DataConfig(), recognise(tmp_path)), "train")
