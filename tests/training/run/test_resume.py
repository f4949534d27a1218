from dataclasses import replace

import pytest

from detector.categories import Category, CategoryMap
from detector.config import Config, TrainConfig
from detector.errors import UserError
from detector.training.run.resume import check_resumable
from detector.training.state.checkpoint import Progress, TrainingState

CATS = CategoryMap.from_names(["cat", "dog"])


def make_state(config: Config) -> TrainingState:
    return TrainingState(config, CATS, world_size=2, progress=Progress(), model={})


def compare(config: Config, categories: CategoryMap = CATS, world_size: int = 2) -> list[str]:
    said: list[str] = []
    check_resumable(make_state(Config()), config, categories, world_size, said.append)
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
