"""Folders of annotated pictures as people have them: one function each writes one, with the same pictures and boxes.

Training has four pictures with one box each, val and test two, where the layout has splits; classes are cat and dog.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NAMES = ("cat", "dog")
COUNTS = {"train": 4, "val": 2, "test": 2}
SIZE = 64
_NUMBERS = {"train": 0, "val": 100, "test": 200, "all": 300}


def picture(path: Path, number: int) -> None:
    """A picture that no other number has: noise with a bright square."""
    pixels = np.random.default_rng(number).integers(0, 120, (SIZE, SIZE, 3), np.uint8)
    x, y, width, height = box(number)
    pixels[y : y + height, x : x + width] = (230, 40, 40) if number % 2 == 0 else (40, 40, 230)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def box(number: int) -> tuple[int, int, int, int]:
    """x, y, width, height of the one box of a picture."""
    return 4 + number % 20, 6 + number % 10, 24, 20


def label(number: int) -> int:
    """Its class, from 0."""
    return number % 2


def numbers(split: str) -> list[int]:
    """Of a split's pictures."""
    return [_NUMBERS[split] + place for place in range(COUNTS.get(split, 8))]


def coco(path: Path, pictures: Iterable[int], prefix: str = "", placeholder: bool = False) -> None:
    """A COCO file of some pictures; a placeholder is Roboflow's category 0."""
    first = 1
    categories: list[dict[str, Any]] = [{"id": 0, "name": "pets", "supercategory": "none"}] if placeholder else []
    categories += [{"id": first + n, "name": name, "supercategory": "pets"} for n, name in enumerate(NAMES)]
    chosen = list(pictures)
    images = [{"id": n, "file_name": f"{prefix}{n}.png", "width": SIZE, "height": SIZE} for n in chosen]
    annotations = [
        {"id": n + 1, "image_id": n, "category_id": first + label(n), "bbox": list(box(n)), "area": 480, "iscrowd": 0}
        for n in chosen
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def xml(path: Path, number: int) -> None:
    """Pascal VOC's file of one picture."""
    x, y, width, height = box(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<annotation><filename>{number}.png</filename><size><width>{SIZE}</width><height>{SIZE}</height>"
        f"<depth>3</depth></size><object><name>{NAMES[label(number)]}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin>"
        f"<xmax>{x + width}</xmax><ymax>{y + height}</ymax></bndbox></object></annotation>"
    )


def line(path: Path, number: int) -> None:
    """YOLO's file of one picture."""
    x, y, width, height = box(number)
    values = ((x + width / 2) / SIZE, (y + height / 2) / SIZE, width / SIZE, height / SIZE)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{label(number)} " + " ".join(f"{value:.6f}" for value in values) + "\n")


def roboflow_coco(root: Path) -> str:
    """train, valid and test, each with its file."""
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        coco(root / folder / "_annotations.coco.json", numbers(split), placeholder=True)
        for n in numbers(split):
            picture(root / folder / f"{n}.png", n)
    (root / "README.roboflow.txt").write_text("exported")
    return str(root)


def roboflow_voc(root: Path) -> str:
    """train, valid and test, XML files beside the pictures."""
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        for n in numbers(split):
            picture(root / folder / f"{n}.png", n)
            xml(root / folder / f"{n}.xml", n)
    (root / "README.roboflow.txt").write_text("exported")
    return str(root)


def roboflow_yolo(root: Path) -> str:
    """data.yaml whose paths begin one folder too high, as Roboflow writes them."""
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        for n in numbers(split):
            picture(root / folder / "images" / f"{n}.png", n)
            line(root / folder / "labels" / f"{n}.txt", n)
    (root / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['cat', 'dog']\n"
        "roboflow:\n  workspace: pets\n"
    )
    return str(root)


def ultralytics(root: Path) -> str:
    """A YAML file with a path of the author's machine, and images/ and labels/ by split."""
    for split in ("train", "val", "test"):
        for n in numbers(split):
            picture(root / "images" / split / f"{n}.png", n)
            line(root / "labels" / split / f"{n}.txt", n)
    (root / "pets.yaml").write_text(
        "path: ../datasets/pets  # dataset root\ntrain: images/train\nval: images/val\ntest: images/test\n"
        "names:\n  0: cat\n  1: dog\n"
    )
    return str(root)


def ultralytics_lists(root: Path) -> str:
    """data.yaml whose splits are lists of pictures; the word is the file."""
    for split in ("train", "val"):
        for n in numbers(split):
            picture(root / "images" / "both" / f"{n}.png", n)
            line(root / "labels" / "both" / f"{n}.txt", n)
        (root / f"{split}.txt").write_text("".join(f"./images/both/{n}.png\n" for n in numbers(split)))
    (root / "data.yaml").write_text(f"path: {root}\ntrain: train.txt\nval: val.txt\nnames: [cat, dog]\n")
    return str(root / "data.yaml")


def yolo_without_yaml(root: Path) -> str:
    """images/ and labels/ by split, and classes.txt."""
    for split in ("train", "val"):
        for n in numbers(split):
            picture(root / "images" / split / f"{n}.png", n)
            line(root / "labels" / split / f"{n}.txt", n)
    (root / "classes.txt").write_text("cat\ndog\n")
    return str(root)


def darknet(root: Path) -> str:
    """obj.data with lists, pictures and text files in one folder."""
    for split, name in (("train", "train.txt"), ("val", "valid.txt")):
        for n in numbers(split):
            picture(root / "obj" / f"{n}.png", n)
            line(root / "obj" / f"{n}.txt", n)
        (root / name).write_text("".join(f"data/obj/{n}.png\n" for n in numbers(split)))
    (root / "obj.names").write_text("cat\ndog\n")
    (root / "obj.data").write_text(
        "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\nbackup = backup/\n"
    )
    return str(root)


def plain_coco(root: Path) -> str:
    """COCO's own tree, with other annotations of the same pictures beside the objects."""
    for split in ("train", "val"):
        coco(root / "annotations" / f"instances_{split}2017.json", numbers(split))
        coco(root / "annotations" / f"person_keypoints_{split}2017.json", numbers(split))
        (root / "annotations" / f"captions_{split}2017.json").write_text('{"images": [], "annotations": []}')
        for n in numbers(split):
            picture(root / f"{split}2017" / f"{n}.png", n)
    return str(root)


def coco_one_picture_folder(root: Path) -> str:
    """train.json and val.json beside one folder of pictures; the word is a file."""
    for split in ("train", "val"):
        coco(root / f"{split}.json", numbers(split))
        for n in numbers(split):
            picture(root / "images" / f"{n}.png", n)
    return str(root / "train.json")


def voc_devkit(root: Path) -> str:
    """VOCdevkit/VOC2012 with ImageSets, of which some are lists of one class."""
    year = root / "VOCdevkit" / "VOC2012"
    for split in ("train", "val"):
        for n in numbers(split):
            picture(year / "JPEGImages" / f"{n}.png", n)
            xml(year / "Annotations" / f"{n}.xml", n)
        lists = year / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}.txt").write_text("".join(f"{n}\n" for n in numbers(split)))
        (lists / f"cat_{split}.txt").write_text("".join(f"{n}  1\n" for n in numbers(split)))
    (lists / "trainval.txt").write_text("".join(f"{n}\n" for split in ("train", "val") for n in numbers(split)))
    return str(root)


def flat_coco(root: Path) -> str:
    """Pictures and one COCO file in one folder."""
    coco(root / "_annotations.coco.json", numbers("all"))
    for n in numbers("all"):
        picture(root / f"{n}.png", n)
    return str(root / "_annotations.coco.json")


def flat_voc(root: Path) -> str:
    """XML files and pictures in two folders, without splits."""
    for n in numbers("all"):
        picture(root / "images" / f"{n}.png", n)
        xml(root / "annotations" / f"{n}.xml", n)
    return str(root)


def flat_yolo(root: Path) -> str:
    """Pictures, text files and classes.txt in one folder."""
    for n in numbers("all"):
        picture(root / f"{n}.png", n)
        line(root / f"{n}.txt", n)
    (root / "classes.txt").write_text("cat\ndog\n")
    return str(root)


def labels_file(root: Path) -> str:
    """data/ and labels.json, as FiftyOne exports them."""
    coco(root / "labels.json", numbers("all"))
    for n in numbers("all"):
        picture(root / "data" / f"{n}.png", n)
    return str(root)


def roboflow_yolo_without_valid(root: Path) -> str:
    """Everything was put into train when the set was made; data.yaml names valid and test all the same."""
    for n in numbers("all"):
        picture(root / "train" / "images" / f"{n}.png", n)
        line(root / "train" / "labels" / f"{n}.txt", n)
    (root / "data.yaml").write_text(
        "names:\n- cat\n- dog\nnc: 2\nroboflow:\n  license: CC BY 4.0\ntest: ../test/images\n"
        "train: ../train/images\nval: ../valid/images\n"
    )
    return str(root)


def roboflow_coco_without_valid(root: Path) -> str:
    """The same as COCO."""
    coco(root / "train" / "_annotations.coco.json", numbers("all"), placeholder=True)
    for n in numbers("all"):
        picture(root / "train" / f"{n}.png", n)
    return str(root)


def ultralytics_folders(root: Path) -> str:
    """data.yaml beside the set, with a relative path, each split several folders (and labels beside images/)."""
    for split in ("train", "val"):
        for n in numbers(split):
            picture(root / "pets" / "images" / split / f"camera{n % 2}" / f"{n}.png", n)
            line(root / "pets" / "labels" / split / f"camera{n % 2}" / f"{n}.txt", n)
    (root / "data.yaml").write_text(
        "path: pets\ntrain:\n  - images/train/camera0\n  - images/train/camera1\n"
        "val: [images/val/camera0, images/val/camera1]\nnames: {0: cat, 1: dog}\n"
    )
    return str(root)


def coco_in_images(root: Path) -> str:
    """COCO's tree with the pictures of both splits below images/."""
    for split in ("train", "val"):
        coco(root / "annotations" / f"instances_{split}2017.json", numbers(split))
        for n in numbers(split):
            picture(root / "images" / f"{split}2017" / f"{n}.png", n)
    return str(root)


def coco_in_one_images(root: Path) -> str:
    """The same with all pictures directly in images/."""
    for split in ("train", "val"):
        coco(root / "annotations" / f"instances_{split}2017.json", numbers(split))
        for n in numbers(split):
            picture(root / "images" / f"{n}.png", n)
    return str(root)


def voc2007(root: Path) -> str:
    """VOC2007 with its four lists, trainval among them, and lists of one class; the word is the year's folder."""
    year = root / "VOCdevkit" / "VOC2007"
    main = year / "ImageSets" / "Main"
    main.mkdir(parents=True)
    for split in ("train", "val", "test"):
        for n in numbers(split):
            picture(year / "JPEGImages" / f"{n}.png", n)
            xml(year / "Annotations" / f"{n}.xml", n)
        (main / f"{split}.txt").write_text("".join(f"{n}\n" for n in numbers(split)))
        (main / f"dog_{split}.txt").write_text("".join(f"{n} {1 if label(n) else -1:2}\n" for n in numbers(split)))
    (main / "trainval.txt").write_text("".join(f"{n}\n" for split in ("train", "val") for n in numbers(split)))
    return str(year)


def cvat_coco(root: Path) -> str:
    """CVAT's COCO export: annotations/instances_default.json, and images/default."""
    coco(root / "annotations" / "instances_default.json", numbers("all"))
    for n in numbers("all"):
        picture(root / "images" / "default" / f"{n}.png", n)
    return str(root)


def cvat_yolo(root: Path) -> str:
    """CVAT's YOLO 1.1: obj.data, train.txt with paths of another machine, pictures and text files in one folder."""
    for n in numbers("all"):
        picture(root / "obj_train_data" / f"{n}.png", n)
        line(root / "obj_train_data" / f"{n}.txt", n)
    (root / "train.txt").write_text("".join(f"data/obj_train_data/{n}.png\n" for n in numbers("all")))
    (root / "obj.names").write_text("cat\ndog\n")
    (root / "obj.data").write_text("classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    return str(root)


def cvat_ultralytics(root: Path) -> str:
    """CVAT's Ultralytics YOLO: data.yaml with path `.`, whose train is a list below images/."""
    for n in numbers("all"):
        picture(root / "images" / "train" / f"{n}.png", n)
        line(root / "labels" / "train" / f"{n}.txt", n)
    (root / "train.txt").write_text("".join(f"data/images/train/{n}.png\n" for n in numbers("all")))
    (root / "data.yaml").write_text("names:\n  0: cat\n  1: dog\npath: .\ntrain: train.txt\n")
    return str(root)


def label_studio_coco(root: Path) -> str:
    """Label Studio's COCO export: result.json beside images/, which its names begin with; backslashes on Windows."""
    coco(root / "result.json", numbers("all"), prefix="images\\")
    for n in numbers("all"):
        picture(root / "images" / f"{n}.png", n)
    return str(root)


def label_studio_yolo(root: Path) -> str:
    """Label Studio's YOLO export: classes.txt, notes.json, images/ and labels/."""
    for n in numbers("all"):
        picture(root / "images" / f"{n}.png", n)
        line(root / "labels" / f"{n}.txt", n)
    (root / "classes.txt").write_text("cat\ndog")
    notes = {"categories": [{"id": i, "name": name} for i, name in enumerate(NAMES)], "info": {"year": 2026}}
    (root / "notes.json").write_text(json.dumps(notes))
    return str(root)


def label_studio_voc(root: Path) -> str:
    """Label Studio's Pascal VOC export: Annotations/ and images/."""
    for n in numbers("all"):
        picture(root / "images" / f"{n}.png", n)
        xml(root / "Annotations" / f"{n}.xml", n)
    return str(root)


def roboflow_darknet(root: Path) -> str:
    """Roboflow's YOLO Darknet: text files beside the pictures of each split, and its class names in each folder."""
    for split, folder in (("train", "train"), ("val", "valid")):
        for n in numbers(split):
            picture(root / folder / f"{n}.png", n)
            line(root / folder / f"{n}.txt", n)
        (root / folder / "_darknet.labels").write_text("cat\ndog\n")
    return str(root)


def label_img_yolo(root: Path) -> str:
    """LabelImg's YOLO: classes.txt beside the text files of each split; some suffixes in capitals."""
    for split in ("train", "val"):
        for n in numbers(split):
            picture(root / split / "images" / f"{n}.png", n)
            line(root / split / "labels" / f"{n}.{'TXT' if n % 2 else 'txt'}", n)
        (root / split / "labels" / "classes.txt").write_text("cat\ndog\n")
    return str(root)


def voc_lists_beside(root: Path) -> str:
    """PaddleDetection's VOC: lists of pairs, a picture and its XML file, beside both folders."""
    for split in ("train", "val"):
        for n in numbers(split):
            picture(root / "images" / f"{n}.png", n)
            xml(root / "annotations" / f"{n}.xml", n)
        pairs = [f"./images/{n}.png ./annotations/{n}.xml\n" for n in numbers(split)]
        (root / f"{split}.txt").write_text("".join(pairs))
    (root / "label_list.txt").write_text("cat\ndog\n")
    return str(root)


def voc_lists_of_files(root: Path) -> str:
    """ImageSets/Main whose lists name pictures with their suffix."""
    for split in ("train", "val"):
        for n in numbers(split):
            picture(root / "JPEGImages" / f"{n}.png", n)
            xml(root / "Annotations" / f"{n}.xml", n)
        (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{n}.png\n" for n in numbers(split)))
    return str(root)


# Each layout, its format, and its splits.
LAYOUTS: dict[str, tuple[Callable[[Path], str], str, tuple[str, ...]]] = {
    "Roboflow COCO": (roboflow_coco, "coco", ("train", "val", "test")),
    "Roboflow VOC": (roboflow_voc, "voc", ("train", "val", "test")),
    "Roboflow YOLO": (roboflow_yolo, "yolo", ("train", "val", "test")),
    "ultralytics": (ultralytics, "yolo", ("train", "val", "test")),
    "ultralytics lists": (ultralytics_lists, "yolo", ("train", "val")),
    "YOLO without YAML": (yolo_without_yaml, "yolo", ("train", "val")),
    "darknet": (darknet, "yolo", ("train", "val")),
    "COCO": (plain_coco, "coco", ("train", "val")),
    "COCO, one folder of pictures": (coco_one_picture_folder, "coco", ("train", "val")),
    "VOC devkit": (voc_devkit, "voc", ("train", "val")),
    "flat COCO": (flat_coco, "coco", ()),
    "flat VOC": (flat_voc, "voc", ()),
    "flat YOLO": (flat_yolo, "yolo", ()),
    "FiftyOne": (labels_file, "coco", ()),
    "Roboflow YOLO without valid": (roboflow_yolo_without_valid, "yolo", ()),
    "Roboflow COCO without valid": (roboflow_coco_without_valid, "coco", ()),
    "ultralytics folders": (ultralytics_folders, "yolo", ("train", "val")),
    "COCO, pictures below images": (coco_in_images, "coco", ("train", "val")),
    "COCO, pictures in images": (coco_in_one_images, "coco", ("train", "val")),
    "VOC2007": (voc2007, "voc", ("train", "val", "test")),
    "CVAT COCO": (cvat_coco, "coco", ()),
    "CVAT YOLO": (cvat_yolo, "yolo", ()),
    "CVAT Ultralytics": (cvat_ultralytics, "yolo", ()),
    "Label Studio COCO": (label_studio_coco, "coco", ()),
    "Label Studio YOLO": (label_studio_yolo, "yolo", ()),
    "Label Studio VOC": (label_studio_voc, "voc", ()),
    "Roboflow Darknet": (roboflow_darknet, "yolo", ("train", "val")),
    "LabelImg YOLO": (label_img_yolo, "yolo", ("train", "val")),
    "VOC, lists beside": (voc_lists_beside, "voc", ("train", "val")),
    "VOC, lists of files": (voc_lists_of_files, "voc", ("train", "val")),
}
