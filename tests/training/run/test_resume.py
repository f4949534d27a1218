from dataclasses import replace

import pytest

from detector.categories import Category, CategoryMap
from detector.config import BackboneConfig, Config, DataConfig, ModelConfig, RoIConfig, TrainConfig
from detector.datasets.fingerprint import Fingerprint
from detector.errors import UserError
from detector.training.run.resume import begun_from, check_resumable
from detector.training.state.checkpoint import TrainingState
from detector.training.state.progress import Progress

CATS = CategoryMap.from_names(["cat", "dog"])
BEFORE = {"train": Fingerprint(10, 30, "a"), "val": Fingerprint(5, 12, "b")}


def make_state(config: Config) -> TrainingState:
    return TrainingState(config, CATS, world_size=2, progress=Progress(), model={}, annotations=BEFORE)


def compare(
    config: Config,
    categories: CategoryMap = CATS,
    world_size: int = 2,
    now: dict[str, Fingerprint] | None = None,
) -> list[str]:
    said: list[str] = []
    check_resumable(make_state(Config()), config, categories, now or BEFORE, world_size, said.append)
    return said


def test_the_same_run_says_nothing() -> None:
    assert compare(Config()) == []


def test_settings_are_told_apart_by_whether_they_change_the_result() -> None:
    harmless = replace(Config(), train=TrainConfig(log_every=7))
    assert compare(harmless) == ["settings changed since the checkpoint: train.log_every: 20 → 7."]
    said = compare(replace(Config(), train=TrainConfig(log_every=7, learning_rate=0.5, seed=3)))
    assert len(said) == 2
    assert "will not be that of an uninterrupted run: train.learning_rate: 0.02 → 0.5; train.seed: 0 → 3." in said[1]


@pytest.mark.parametrize(
    "other",
    [
        CategoryMap.from_names(["dog", "cat"]),
        CategoryMap.from_names(["cat"]),
        CategoryMap((Category(1, "cat"), Category(5, "dog"))),
    ],
)
def test_other_classes_are_refused_naming_both(other: CategoryMap) -> None:
    with pytest.raises(UserError, match=r"2 categories \(1 cat, 2 dog\), and the dataset has \d \(.*\); start"):
        compare(Config(), other)


def test_another_number_of_processes_is_said() -> None:
    (said,) = compare(Config(), world_size=1)
    assert "1 process instead of 2: a step still has 16 images" in said


def test_annotations_that_changed_are_said() -> None:
    (said,) = compare(Config(), now=BEFORE | {"train": Fingerprint(10, 29, "c")})
    assert "train split changed since the checkpoint: there were 10 pictures with 30 boxes, and now there are" in said
    assert "10 pictures with 29 boxes. The result will not be that of an uninterrupted run." in said
    (said,) = compare(Config(), now=BEFORE | {"val": Fingerprint(5, 12, "c")})
    assert "val split changed since the checkpoint: there are still 5 pictures" in said
    assert "APs before and after, the best one among them, do not compare." in said
    assert compare(Config(), now={"train": BEFORE["train"]}) == []  # the val split is a setting, which is said


def test_weights_to_start_from_are_not_read_again_and_that_is_said() -> None:
    (said,) = compare(replace(Config(), model=ModelConfig(weights="R101-C4-3x")))
    assert said == ("without effect, because the run goes on from its checkpoint: model.weights: None → R101-C4-3x.")


def test_a_run_that_goes_on_still_says_what_it_began_from() -> None:
    begun = replace(Config(), model=ModelConfig(weights="R101-C4-3x", backbone=BackboneConfig(weights="a.pth")))
    other = replace(Config(), model=ModelConfig(weights="b.pth", roi=RoIConfig(batch_size_per_image=9)))
    assert begun_from(other, begun) == replace(other, model=replace(begun.model, roi=other.model.roi))
    assert begun_from(begun, Config()) == Config()


def test_a_data_set_that_has_moved_is_still_the_same() -> None:
    elsewhere = replace(Config(), data=DataConfig(train_annotations="b.json", train_images="b"))
    (said,) = compare(elsewhere)
    assert said.startswith("settings changed since the checkpoint: data.train_annotations: None → b.json; data.train_i")
    said, *_ = compare(elsewhere, now=BEFORE | {"train": Fingerprint(10, 29, "c")})
    assert said.startswith("settings changed since the checkpoint, so the result will not be that of an uninterrupted")
