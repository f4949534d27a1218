import json
from pathlib import Path

import torch
from tiny_run import write_dataset
from torch import nn

from detector.datasets.formats.open_dataset import open_dataset
from detector.training.report.describe import describe_classes, describe_data, describe_device, describe_parameters


def test_what_is_trained_and_what_is_frozen() -> None:
    model = nn.ModuleDict({"backbone": nn.ModuleDict({"conv1": nn.Linear(10, 200), "conv2_x": nn.Linear(1, 1)})})
    model["backbone"]["conv1"].requires_grad_(False)  # type: ignore[index]
    lines = [line.split() for line in describe_parameters(model).splitlines()]
    assert lines == [
        ["backbone.conv1", "0", "trained", "2,200", "frozen"],
        ["backbone.conv2_x", "2", "trained", "0", "frozen"],
        ["together", "2", "trained", "2,200", "frozen"],
    ]


def test_class_balance() -> None:
    lines = describe_classes(["cat", "zebra", "none"], [400, 100, 0]).splitlines()
    assert [line.split()[:2] for line in lines] == [["cat", "400"], ["zebra", "100"], ["none", "0"]]
    assert [line.count("█") for line in lines] == [30, 15, 0]  # square roots: 20 to 10
    assert describe_classes(["a"], [0]).strip() == "a        0"


def test_data(tmp_path: Path) -> None:
    settings = dict(word.split("=") for word in write_dataset(tmp_path, train=5))
    path = Path(settings["data.train_annotations"])
    content = json.loads(path.read_text())
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][1]["bbox"][2] = 0
    path.write_text(json.dumps(content))
    boxes = len(content["annotations"]) - 2
    dataset = open_dataset("coco", path, settings["data.train_images"])
    first, *table = describe_data(dataset).splitlines()
    assert first.startswith(f"{path}: 5 images, ")
    assert f"; {boxes} boxes and 1 crowds or difficult objects, which are not trained on; 1 boxes without area" in first
    assert [line.split()[0] for line in table] == ["red", "blue"]
    assert sum(int(line.split()[1]) for line in table) == boxes


def test_device() -> None:
    assert describe_device(torch.device("cpu")) == f"cpu ({torch.get_num_threads()} threads)"
