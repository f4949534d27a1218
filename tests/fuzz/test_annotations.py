"""Broken annotation files: every reader takes them or refuses them in one sentence; the checks name their faults."""

import os
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from annotated_sets import sound_content, write_json, write_pictures
from fuzzing import mutate_bytes, mutate_tree, seeds, survive, to_json

from detector.datasets.checks.examine import examine
from detector.datasets.checks.pictures import Picture
from detector.datasets.checks.repair import repair
from detector.datasets.faults import summarise
from detector.datasets.formats.open_dataset import open_dataset
from detector.datasets.formats.write import write_coco, write_voc, write_yolo
from detector.errors import UserError
from detector.evaluation.ground_truth import read_ground_truth
from detector.evaluation.results import read_results


def closed(pictures: Iterable[Picture], _total: int) -> Iterable[Picture]:
    return pictures


def check_and_fix(data_format: Any, annotations: Path, images: Path | None) -> None:
    """As `faster-rcnn check-data` does."""
    found = examine(data_format, annotations, images, closed, open_files=False, keep_masks=True)
    assert all(line.isprintable() for line in summarise(found.faults))
    repair(found.contents, found.columns, found.faults, None)


def large_content() -> dict[str, Any]:
    content = sound_content() | {"info": {"year": 2017}, "licenses": [{"id": 1}]}
    content["annotations"][1]["segmentation"] = [[1, 2, 3, 4, 5, 6]]
    return content


def survive_all(path: Path, seed: int) -> None:
    survive(lambda: open_dataset("coco", path, path.parent), path.name, seed)
    survive(lambda: read_ground_truth(path), path.name, seed)
    survive(lambda: check_and_fix("coco", path, None), path.name, seed)


@pytest.mark.parametrize("numbers", seeds(20, 200))
def test_coco_bytes(tmp_path: Path, numbers: range) -> None:
    data, path = to_json(large_content()), tmp_path / "set.json"
    for seed in numbers:
        path.write_bytes(mutate_bytes(data, Random(seed)))
        survive_all(path, seed)


@pytest.mark.parametrize("numbers", seeds(30, 400))
def test_coco_values(tmp_path: Path, numbers: range) -> None:
    path = tmp_path / "set.json"
    for seed in numbers:
        path.write_bytes(to_json(mutate_tree(large_content(), Random(seed))))
        survive_all(path, seed)


@pytest.mark.parametrize("numbers", seeds(10, 100))
def test_results(tmp_path: Path, numbers: range) -> None:
    """Detections to be scored."""
    row = {"image_id": 5, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}
    path = tmp_path / "detections.json"
    for seed in numbers:
        random = Random(seed)
        content = to_json(mutate_tree([row, row, row], random))
        path.write_bytes(content if random.random() < 0.7 else mutate_bytes(content, random))
        survive(lambda: read_results(path), path.name, seed)


@pytest.mark.parametrize("numbers", seeds(10, 120))
@pytest.mark.parametrize("data_format", ["voc", "yolo"])
def test_trees(tmp_path: Path, data_format: str, numbers: range) -> None:
    content = sound_content()
    content["annotations"][0]["iscrowd"] = 0
    write_pictures(tmp_path / "images", content)
    tree = tmp_path / "tree"
    write_voc(tree, content, "all") if data_format == "voc" else write_yolo(tree, content)
    annotations = tree / ("ImageSets/Main/all.txt" if data_format == "voc" else "data.yaml")
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    for seed in numbers:
        random = Random(seed)
        path = random.choice(files)
        good = path.read_bytes()
        path.write_bytes(mutate_bytes(good, random))
        # What is wrong may show in the tree's list, in a file, or in a picture's name.
        survive(lambda: open_dataset(data_format, annotations, tmp_path / "images"), str(tmp_path), seed)
        survive(lambda: check_and_fix(data_format, annotations, tmp_path / "images"), str(tmp_path), seed)
        path.write_bytes(good)


@pytest.mark.parametrize("numbers", seeds(10, 100))
def test_what_is_fixed_can_be_read(tmp_path: Path, numbers: range) -> None:
    """Whatever the repair does not leave to the user is gone from what it wrote."""
    path, fixed = tmp_path / "set.json", tmp_path / "fixed.json"
    for seed in numbers:
        content = large_content()
        content["annotations"] = mutate_tree(content["annotations"], Random(seed))
        path.write_bytes(to_json(content))
        try:
            found = examine("coco", path, None, closed, open_files=False, keep_masks=True)
        except UserError:
            continue
        new, _, left = repair(found.contents, found.columns, found.faults, None)
        write_coco(fixed, new)
        again = examine("coco", fixed, None, closed, open_files=False).faults
        assert {f.kind.name for f in again} <= {f.kind.name for f in left} | {"unused-category", "empty-table"}, seed


HOSTILE_FILES = {
    "deep": "[" * 200_000,
    "deep_values": '{"images": ' + "[" * 50_000 + "]" * 50_000 + "}",
    "long": '{"images": [' + "{}, " * 20_000 + '{}], "annotations": [], "categories": []}',
    "halves": '{"annotations": [], "categories": [{"id": 1, "name": "a"}], '
    '"images": [{"id": 1, "file_name": "\\ud800"}]}',
    "names": '{"annotations": [], "categories": [{"id": 1, "name": "\\u001b[2J\\n"}], '
    '"images": [{"id": 1, "file_name": "../../etc/passwd"}, {"id": 2, "file_name": "/dev/zero"}]}',
    "masks": '{"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": {"size": [9, 9], "counts": '
    '"ooooooo"}}], "categories": [{"id": 1, "name": "a"}], "images": [{"id": 1, "file_name": "a"}]}',
    "text": "images: no",
    "bytes": "\x00" * 1000,
}


@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_hostile_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.json"
    path.write_text(HOSTILE_FILES[name])
    survive_all(path, 0)


ENTITIES = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
HOSTILE_XML = {
    "laughs": f'<!DOCTYPE a [<!ENTITY e0 "ha">{ENTITIES}]><annotation><filename>&e9;</filename></annotation>',
    "outside": '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation><filename>&e;</filename></annotation>',
    "deep": "<a>" * 100_000,
    "encoding": '<?xml version="1.0" encoding="utf-77"?><annotation/>',
    "up": "<annotation><filename>../../z.png</filename></annotation>",
}


@pytest.mark.parametrize("name", HOSTILE_XML)
def test_hostile_xml(tmp_path: Path, name: str) -> None:
    write_pictures(tmp_path / "images", sound_content())
    (tmp_path / "a").mkdir()
    (tmp_path / "a/z.xml").write_text(HOSTILE_XML[name])
    survive(lambda: open_dataset("voc", tmp_path / "a", tmp_path / "images"), str(tmp_path), 0)
    survive(lambda: check_and_fix("voc", tmp_path / "a", tmp_path / "images"), str(tmp_path), 0)


PIPES_AND_LINKS = ("pipe", "device", "loop", "nowhere")


@pytest.mark.parametrize("kind", PIPES_AND_LINKS)
@pytest.mark.parametrize("data_format", ["coco", "voc", "yolo"])
def test_pipes_devices_and_loops_never_hang(tmp_path: Path, data_format: str, kind: str) -> None:
    """In the place of every file of a tree: what blocks, what never ends, and what leads nowhere or back."""
    content = sound_content()
    content["annotations"][0]["iscrowd"] = 0
    write_pictures(tmp_path / "images", content)
    tree = tmp_path / "tree"
    if data_format == "coco":
        tree.mkdir()
        write_json(tree / "set.json", content)
    else:
        (write_voc(tree, content, "all") if data_format == "voc" else write_yolo(tree, content))
    annotations = tree / {"coco": "set.json", "voc": "ImageSets/Main/all.txt", "yolo": "labels"}[data_format]
    files = [path for folder in (tree, tmp_path / "images") for path in folder.rglob("*") if path.is_file()]
    for path in files:
        if path == annotations:
            continue  # a pipe there may be meant: <(zcat set.json.gz)
        good = path.read_bytes()
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to({"device": "/dev/zero", "loop": path.parent, "nowhere": "missing"}[kind])
        survive(lambda: open_dataset(data_format, annotations, tmp_path / "images"), str(tmp_path), 0)
        survive(lambda: check_and_open(data_format, annotations, tmp_path / "images"), str(tmp_path), 0)
        path.unlink()
        path.write_bytes(good)


def check_and_open(data_format: Any, annotations: Path, images: Path) -> None:
    """As the checks do with pictures."""
    summarise(examine(data_format, annotations, images, closed).faults)


def test_hostile_names_of_classes(tmp_path: Path) -> None:
    """A few lines of YAML that stand for 10⁹ words."""
    write_pictures(tmp_path / "images", sound_content())
    lists = "\n".join(f"- &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9))
    (tmp_path / "data.yaml").write_text(f"names:\n- &a0 [{', '.join('x' * 10)}]\n{lists}\n")
    survive(lambda: open_dataset("yolo", tmp_path / "data.yaml", tmp_path / "images"), str(tmp_path), 0)


def test_the_fuzzer_notices(tmp_path: Path) -> None:
    """What it promises to find, it finds."""
    write_json(tmp_path / "a.json", {})

    def refuse(message: str) -> None:
        raise UserError(message)

    assert survive(lambda: refuse("a.json: no"), "a.json", 0) == "a.json: no"
    assert survive(lambda: None, "a.json", 0) is None
    for message in ("", " ", "b.json: no", "a.json" * 200):
        with pytest.raises(AssertionError):
            survive(lambda message=message: refuse(message), "a.json", 0)
    with pytest.raises(KeyError, match="x"):
        survive(lambda: {}["x"], "a.json", 0)
