"""The rules of a fitted recipe, one by one, and that what they choose is a config."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import folder_layouts as layouts
import numpy as np
import pytest

from detector.config import load_config
from detector.datasets.formats.open_dataset import open_dataset
from detector.training.fitted.choice import Choice, describe_choices
from detector.training.fitted.facts import Facts, facts_of
from detector.training.fitted.machine import Machine
from detector.training.fitted.recipe import BACKBONE, DETECTOR, base_recipe, choose_recipe

CPU = Machine(is_gpu=False, free_bytes=8 * 10**9, reachable=(), processors=2)
GPU = Machine(is_gpu=True, free_bytes=80 * 10**9, reachable=(DETECTOR, BACKBONE), processors=16)


def facts(edge: float = 60.0, **changes: Any) -> Facts:
    """200 pictures of 480 × 640 with 5 boxes each, all of one size unless said."""
    count = len(changes.get("boxes", range(1000)))
    given = Facts(
        pictures=200,
        sizes=np.tile([480.0, 640.0], (count, 1)),
        boxes=np.full((count, 2), edge),
        labels=np.ones(count, np.int64),
        shortest=480.0,
        longest=640.0,
        names=("cat", "dog"),
        per_class=(600, 400),
    )
    return dataclasses.replace(given, **changes)


def classes_of(edges: dict[str, tuple[float, int]]) -> Facts:
    """Classes by name, of square boxes: their edges and how many."""
    boxes = np.concatenate([np.full((count, 2), edge) for edge, count in edges.values()])
    labels = np.repeat(np.arange(len(edges)) + 1, [count for _, count in edges.values()])
    return facts(boxes=boxes, labels=labels, names=tuple(edges), per_class=tuple(n for _, n in edges.values()))


def choice_of(topic: str, facts: Facts, machine: Machine = CPU) -> Choice:
    return next(choice for choice in choose_recipe(facts, machine, {}) if choice.topic == topic)


def chosen(facts: Facts, machine: Machine = CPU, **given: Any) -> dict[str, Any]:
    choices = choose_recipe(facts, machine, {key.replace("__", "."): value for key, value in given.items()})
    return {key: value for choice in choices for key, value in choice.values.items()}


@pytest.mark.parametrize("machine", [CPU, GPU, dataclasses.replace(CPU, reachable=(BACKBONE,))])
def test_every_choice_is_a_setting_that_is_allowed(machine: Machine) -> None:
    for given in (facts(), facts(5), facts(400), facts(boxes=np.empty((0, 2)), shortest=0.0)):
        config = load_config(base_recipe(machine), chosen(given, machine))
        assert config.train.iterations > 0


def test_the_network_starts_from_the_best_weights_there_are() -> None:
    assert chosen(facts(), GPU)["model.weights"] == DETECTOR
    only_backbone = chosen(facts(), dataclasses.replace(GPU, reachable=(BACKBONE,)))
    assert only_backbone["model.backbone.weights"] == BACKBONE
    assert "model.weights" not in only_backbone
    scratch = chosen(facts())
    assert scratch["model.backbone.norm"] == "batch"
    assert not {"model.weights", "model.backbone.weights"} & scratch.keys()


def test_small_boxes_want_large_pictures() -> None:
    sizes = [chosen(facts(edge), GPU)["input.min_size_test"] for edge in (6, 12, 18, 100)]
    assert sizes == [800, 800, 640, 480]
    sizes = [chosen(facts(edge))["input.min_size_test"] for edge in (6, 32, 80, 300)]
    assert sizes == [480, 480, 288, 240]
    assert "half of the boxes of cat have less than 16 pixels" in str(choice_of("input", facts(4)).warning)


def test_the_input_size_is_that_of_a_small_class_however_few_its_boxes() -> None:
    cells = {"RBC": (100.0, 950), "platelet": (32.0, 50)}
    assert chosen(classes_of(cells))["input.min_size_test"] == 480
    assert "nine of ten boxes of platelet" in choice_of("input", classes_of(cells)).reason
    # Fewer than ten boxes say too little, and so does one class of many.
    assert chosen(classes_of(cells | {"platelet": (32.0, 9)}))["input.min_size_test"] == 240
    many = {f"class {number}": (100.0, 20) for number in range(19)} | {"tiny": (10.0, 20)}
    assert chosen(classes_of(many))["input.min_size_test"] == 240
    assert chosen(classes_of({"only": (32.0, 3)}))["input.min_size_test"] == 480


def test_from_scratch_on_a_processor_sizes_vary_in_training_where_those_of_a_class_do() -> None:
    """A class whose boxes have about one size is known by it; of animals near and far it says nothing."""
    spread = np.repeat(np.geomspace(40, 120, 100), 10)
    alike, unlike = facts(80), facts(boxes=np.stack([spread, spread], axis=1))
    values = chosen(alike)
    assert values["input.min_size_train"] == (values["input.min_size_test"],)
    assert values["input.max_size_train"] == values["input.max_size_test"]
    assert "1.0 times the size of the smaller" in choice_of("input", alike).reason
    assert "2.4 times the size of the smaller" in choice_of("input", unlike).reason  # 3 ** 0.8, of the tenths
    for varied in (chosen(unlike), chosen(alike, GPU), chosen(alike, model__weights="a.safetensors")):
        assert len(varied["input.min_size_train"]) == 5
        assert varied["input.max_size_train"] == 1.2 * varied["input.max_size_test"]


def test_the_variety_of_sizes_is_that_within_a_class_of_pictures_resized_alike() -> None:
    two = classes_of({"small": (20.0, 50), "large": (200.0, 50)})
    assert two.variety() == 1  # sizes that tell the classes apart do not vary
    half = np.arange(100) < 50
    zoomed = facts(
        boxes=np.where(half, 20.0, 40.0)[:, None] * [1.0, 1.0], sizes=np.where(half, 240.0, 480.0)[:, None] * [1.0, 1.5]
    )
    assert zoomed.variety() == 1  # one size in pictures of two
    assert classes_of({"one": (20.0, 50), "few": (20.0, 3)}).variety() == 1
    assert facts(boxes=np.empty((0, 2)), labels=np.empty(0, np.int64), sizes=np.empty((0, 2))).variety() is None


def test_anchors_of_trained_weights_stay_where_they_fit() -> None:
    assert chosen(facts(64), GPU)["model.rpn.anchor_sizes"] == (32.0, 64.0, 128.0, 256.0, 512.0)
    assert chosen(facts(8), GPU)["model.rpn.anchor_sizes"] != (32.0, 64.0, 128.0, 256.0, 512.0)
    scattered = np.random.default_rng(0).uniform(0.5, 6, (1000, 2)) ** np.array([4.0, 4.0])
    choice = choice_of("anchors", facts(boxes=scattered))
    assert "have an anchor of their size and shape" in str(choice.warning)


def test_length_and_batch_follow_the_set_and_the_machine() -> None:
    assert chosen(facts(), GPU)["train.batch_size"] == 16
    little = dataclasses.replace(GPU, free_bytes=8 * 10**9)
    assert chosen(facts(), little)["train.batch_size"] < 16
    lengths = [chosen(facts(pictures=n), GPU)["train.iterations"] * 16 / n for n in (1000, 7000, 100_000)]
    assert lengths == pytest.approx([32, 12, 12], rel=0.01)
    assert (
        chosen(facts(300, pictures=100))["train.iterations"] * 2 == 100 * 72
    )  # epochs, which a processor has time for here
    assert chosen(facts(60))["train.iterations"] == 4550
    assert chosen(facts(60), train__batch_size=4)["train.iterations"] == 2275  # as many pictures
    asked = chosen(facts(), train__epochs=3)
    assert asked["train.epochs"] == 3
    assert "train.iterations" not in asked


@pytest.mark.parametrize("reachable", [(), (DETECTOR,)])
@pytest.mark.parametrize("edge", [10, 30, 80])
def test_a_run_without_a_gpu_takes_no_longer_for_larger_pictures(edge: float, reachable: tuple[str, ...]) -> None:
    values = chosen(facts(edge, pictures=5000), dataclasses.replace(CPU, reachable=reachable))
    fixed, each = (0.45, 9.7) if reachable else (0.12, 0.4)  # seconds of a core, measured
    seconds = fixed + each * values["input.min_size_test"] ** 2 * 4 / 3 / 1e6
    assert values["train.iterations"] * 2 * seconds / 60 == pytest.approx(30, rel=0.1)


def test_evaluations_take_a_small_part_of_the_time() -> None:
    assert chosen(facts(val_pictures=87))["train.evaluate_every"] == 0.1
    values = chosen(facts(val_pictures=5000))
    assert (values["train.evaluate_every"], values["train.patience"]) == (0.5, 1)


def test_there_are_proposals_for_every_box_of_full_pictures() -> None:
    few = choice_of("regions", facts(fullest=28))
    assert (dict(few.values), "no more than the 100 there are" in few.reason) == ({}, True)
    many = chosen(facts(fullest=140))
    assert (many["model.rpn.post_nms_top_n_test"], many["model.detection.max_per_image"]) == (450, 280)
    assert "model.rpn.post_nms_top_n_test" not in chosen(facts(fullest=140), GPU)  # there are 1000


def test_weights_of_the_users_own_are_no_start_from_scratch() -> None:
    for given in ({"model__weights": "a.safetensors"}, {"model__backbone__weights": "b.pth"}):
        values = chosen(facts(), **given)
        assert (values["train.learning_rate"], values["train.reference_batch_size"]) == (0.02, 16)
        assert "train.ema_decay" not in values


def test_classes_that_differ_twentyfold_are_balanced() -> None:
    assert chosen(facts(per_class=(1000, 51)))["data.repeat_threshold"] is None
    assert chosen(facts(per_class=(1000, 50)))["data.repeat_threshold"] == 0.15
    assert chosen(facts(per_class=(1000, 0)))["data.repeat_threshold"] is None


@pytest.mark.parametrize(
    ("names", "flip"),
    [
        (("cat", "dog"), 0.5),
        (("turn_left", "turn right"), 0.0),
        (("turnLeft", "x"), 0.0),
        (("leftturn", "rightturn"), 0.0),
        (("0", "1", "2"), 0.0),
        (("30", "50"), 0.0),
        (("bright", "leftover"), 0.5),
    ],
)
def test_classes_with_a_side_are_not_mirrored(names: tuple[str, ...], flip: float) -> None:
    given = facts(names=names, per_class=tuple(5 for _ in names))
    assert chosen(given)["data.augment.horizontal_flip"] == flip


def test_whether_up_matters_is_left_to_the_user() -> None:
    augment = choice_of("augment", facts())
    assert augment.values["data.augment.vertical_flip"] == 0.0
    assert "data.augment.vertical_flip=0.5" in augment.reason


def test_each_choice_is_said_with_its_reason() -> None:
    lines = describe_choices(
        [Choice("batch", {"train.batch_size": 2}, "time is short"), Choice("x", {"a.b": (1.5, 2)}, "why", "look out.")],
        {"train.batch_size": 4},
    )
    assert lines[1:] == [
        "  batch  time is short",
        "           train.batch_size=4 (given)",
        "  x      why",
        "           a.b=[1.5, 2]",
        "warning: look out.",
    ]


def test_sizes_that_are_not_stated_are_the_pictures(tmp_path: Path) -> None:
    layouts.coco(tmp_path / "a.json", [0, 1])
    content = json.loads((tmp_path / "a.json").read_text())
    for image in content["images"]:
        del image["width"], image["height"]
    (tmp_path / "a.json").write_text(json.dumps(content))
    layouts.picture(tmp_path / "0.png", 0)
    measured = facts_of(open_dataset("coco", tmp_path / "a.json", tmp_path))
    assert (measured.shortest, measured.longest, measured.boxes.tolist()) == (64.0, 64.0, [[20.0, 24.0]])
    assert (measured.labels.tolist(), measured.fullest) == ([1], 1)
