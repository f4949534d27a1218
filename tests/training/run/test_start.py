import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from annotated_sets import sound_content, write_pictures
from tiny_run import write_dataset

from detector.categories import CategoryMap
from detector.config import load_config
from detector.datasets.checks.annotations import check_annotations
from detector.datasets.checks.examine import columns_of_dataset
from detector.datasets.dataset import DetectionDataset
from detector.datasets.formats.write import write_voc
from detector.errors import UserError
from detector.training.run.start import check_batch, check_start, open_data, with_classes

FROM_SCRATCH = ["model.backbone.norm=group", "model.backbone.freeze_stages=0"]


def dataset(*names: str) -> DetectionDataset:
    stand_in: Any = SimpleNamespace(categories=CategoryMap.from_names(list(names)), annotation_path="train.json")
    return cast(DetectionDataset, stand_in)


def test_constant_norms_without_weights_are_refused() -> None:
    with pytest.raises(UserError, match=r"frozen_batch needs trained weights \(--weights"):
        check_start(load_config(None, ["model.backbone.freeze_stages=0"]).model)
    with pytest.raises(UserError, match="frozen_batch needs trained weights"):
        check_start(load_config(None, [*FROM_SCRATCH, "model.backbone.conv5_norm=frozen_batch"]).model)
    with pytest.raises(UserError, match="freeze_stages=2 would freeze random weights"):
        check_start(load_config(None, ["model.backbone.norm=batch"]).model)
    check_start(load_config(None, FROM_SCRATCH).model)
    check_start(load_config(None, ["model.weights=R101-C4-3x"]).model)
    check_start(load_config(None, ["model.backbone.weights=R-101"]).model)


def test_the_batch_divides_among_processes_and_micro_batches() -> None:
    config = load_config(None, ["train.batch_size=12", "train.accumulate=2"])
    check_batch(config.train, 3)
    with pytest.raises(UserError, match=r"4 processes × train\.accumulate=2; choose a multiple of 8"):
        check_batch(config.train, 4)


def test_classes_come_from_the_data() -> None:
    assert with_classes(load_config(None), dataset("a", "b")).model.num_classes == 2
    assert with_classes(load_config(None, ["model.num_classes=2"]), dataset("a", "b")).model.num_classes == 2
    with pytest.raises(UserError, match=r"num_classes=3, but train\.json has 2 categories \(1 a, 2 b\)"):
        with_classes(load_config(None, ["model.num_classes=3"]), dataset("a", "b"))


def test_splits_with_other_classes_are_refused(tmp_path: Path) -> None:
    words = write_dataset(tmp_path)
    content = json.loads((tmp_path / "val.json").read_text())
    content["categories"][0]["name"] = "green"
    (tmp_path / "val.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"different categories: only .*train\.json has 3 red"):
        open_data(load_config(None, words).data)


def test_many_boxes_without_area_stop_a_run(tmp_path: Path) -> None:
    words = write_dataset(tmp_path)
    for split in ("val", "train"):
        content = json.loads((tmp_path / f"{split}.json").read_text())
        for row in content["annotations"][:2]:
            row["bbox"][2] = 0
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
        with pytest.raises(
            UserError, match=rf"{split}\.json: 2 of .* boxes .* more than data\.max_dropped=0\.05 allows"
        ):
            open_data(load_config(None, words).data)
    train, _ = open_data(load_config(None, [*words, "data.max_dropped=1"]).data)
    assert train.dropped == 2


@pytest.mark.parametrize("crowds", [False, True])
def test_training_pictures_without_any_object_are_refused(tmp_path: Path, crowds: bool) -> None:
    words = write_dataset(tmp_path)
    content = json.loads((tmp_path / "train.json").read_text())
    content["annotations"] = [{**row, "iscrowd": 1} for row in content["annotations"]] if crowds else []
    (tmp_path / "train.json").write_text(json.dumps(content))
    only = " other than crowd regions and difficult objects" if crowds else ""
    with pytest.raises(
        UserError, match=rf"none of the \d+ training pictures in .* has a box{only}, so there is nothing"
    ):
        open_data(load_config(None, words).data)
    train, _ = open_data(load_config(None, [*words, "data.require_objects=false"]).data)
    assert not train.object_counts().any()
    (kind,) = {fault.kind.name for fault in check_annotations(columns_of_dataset(train))} - {"unused-category"}
    assert kind == "empty-table"


def test_no_data_is_refused() -> None:
    with pytest.raises(UserError, match="nothing to train on"):
        open_data(load_config(None).data)


def test_a_val_split_without_a_rare_class_goes_with_the_training_split(tmp_path: Path) -> None:
    """A VOC tree has no list of its classes: its labels are those of the training split, or they would be others."""
    content = sound_content() | {"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}
    content["annotations"] = [{"id": 1, "image_id": 5, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 0}]
    content["annotations"].append(content["annotations"][0] | {"id": 2, "category_id": 2})
    write_pictures(tmp_path / "images", content)
    write_voc(tmp_path / "train", content, "all")
    write_voc(tmp_path / "val", content | {"annotations": content["annotations"][1:]}, "all")
    words = [f"data.{split}_annotations={tmp_path}/{split}/Annotations" for split in ("train", "val")]
    words += [f"data.{split}_images={tmp_path}/images" for split in ("train", "val")]
    train, val = open_data(load_config(None, ["data.format=voc", *words]).data)
    assert val is not None
    assert train.categories == val.categories
    assert [val[i].labels.tolist() for i in range(3) if len(val[i].labels)] == [[2]]


@pytest.mark.parametrize(("given", "missing"), [("val_annotations", "val_images"), ("val_images", "val_annotations")])
def test_half_a_val_split_is_refused(tmp_path: Path, given: str, missing: str) -> None:
    words = [word for word in write_dataset(tmp_path) if missing not in word]
    with pytest.raises(UserError, match=rf"data\.{given} is set and data\.{missing} is not"):
        open_data(load_config(None, words).data)
