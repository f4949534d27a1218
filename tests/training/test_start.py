import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tiny_run import write_dataset

from detector.categories import CategoryMap
from detector.config import load_config
from detector.datasets.dataset import DetectionDataset
from detector.errors import UserError
from detector.training.start import check_batch, check_start, open_data, with_classes

FROM_SCRATCH = ["model.backbone.norm=group", "model.backbone.freeze_stages=0"]


def dataset(*names: str) -> DetectionDataset:
    stand_in: Any = SimpleNamespace(categories=CategoryMap.from_names(list(names)), annotation_path="train.json")
    return cast(DetectionDataset, stand_in)


def test_constant_norms_without_weights_are_refused() -> None:
    with pytest.raises(UserError, match=r"frozen_batch needs trained weights \(--weights"):
        check_start(load_config(None, ["model.backbone.freeze_stages=0"]))
    with pytest.raises(UserError, match="frozen_batch needs trained weights"):
        check_start(load_config(None, [*FROM_SCRATCH, "model.backbone.conv5_norm=frozen_batch"]))
    with pytest.raises(UserError, match="freeze_stages=2 would freeze random weights"):
        check_start(load_config(None, ["model.backbone.norm=batch"]))
    check_start(load_config(None, FROM_SCRATCH))
    check_start(load_config(None, ["model.weights=R101-C4-3x"]))
    check_start(load_config(None, ["model.backbone.weights=R-101"]))


def test_the_batch_divides_among_processes_and_micro_batches() -> None:
    config = load_config(None, ["train.batch_size=12", "train.accumulate=2"])
    check_batch(config, 3)
    with pytest.raises(UserError, match=r"4 processes × train\.accumulate=2; choose a multiple of 8"):
        check_batch(config, 4)


def test_classes_come_from_the_data() -> None:
    assert with_classes(load_config(None), dataset("a", "b")).model.num_classes == 2
    assert with_classes(load_config(None, ["model.num_classes=2"]), dataset("a", "b")).model.num_classes == 2
    with pytest.raises(UserError, match=r"num_classes=3, but train\.json has 2 categories \{1: a, 2: b\}"):
        with_classes(load_config(None, ["model.num_classes=3"]), dataset("a", "b"))


def test_splits_with_other_classes_are_refused(tmp_path: Path) -> None:
    words = write_dataset(tmp_path)
    content = json.loads((tmp_path / "val.json").read_text())
    content["categories"][0]["name"] = "green"
    (tmp_path / "val.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"different categories: only .*train\.json has 3 red"):
        open_data(load_config(None, words))


def test_no_data_is_refused() -> None:
    with pytest.raises(UserError, match="nothing to train on"):
        open_data(load_config(None))
