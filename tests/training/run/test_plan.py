import dataclasses

import pytest

from detector.config import TrainConfig
from detector.training.run.plan import is_evaluation_due, is_finished, is_log_due, is_save_due
from detector.training.state.progress import Progress

TRAIN = TrainConfig(iterations=100, save_every=30, evaluate_every=40, log_every=20, milestones=(), patience=3)


def at(iteration: int, evaluated: int = 0) -> Progress:
    return Progress(iteration=iteration, evaluated_iteration=evaluated)


def test_appointments_of_a_whole_run() -> None:
    saved = [i for i in range(101) if is_save_due(at(i), TRAIN, saved_iteration=0)]
    evaluated = [i for i in range(101) if is_evaluation_due(at(i), TRAIN)]
    logged = [i for i in range(101) if is_log_due(at(i), TRAIN)]
    assert saved == [30, 40, 60, 80, 90, 100]  # also before every evaluation
    assert evaluated == [40, 80, 100]
    assert logged == [20, 40, 60, 80, 100]


def test_what_was_done_is_not_done_again() -> None:
    assert not is_save_due(at(30), TRAIN, saved_iteration=30)
    assert not is_evaluation_due(at(40, evaluated=40), TRAIN)
    assert is_evaluation_due(at(80, evaluated=40), TRAIN)


def test_evaluation_only_at_the_end() -> None:
    train = dataclasses.replace(TRAIN, evaluate_every=0)
    assert [i for i in range(101) if is_evaluation_due(at(i), train)] == [100]


@pytest.mark.parametrize(("without_gain", "finished"), [(2, False), (3, True)])
def test_patience(without_gain: int, finished: bool) -> None:
    assert is_finished(Progress(iteration=40, evaluations_without_gain=without_gain), TRAIN) is finished


def test_the_end() -> None:
    assert not is_finished(at(99), TRAIN)
    assert is_finished(at(100), TRAIN)
