import json
from pathlib import Path

import pytest

from detector.config import TrainConfig
from detector.training.schedule import describe_learning_rate, learning_rate, peak_learning_rate

SHORT = TrainConfig(
    iterations=100, milestones=(60, 80), warmup_iterations=10, warmup_factor=0.1, learning_rate=1.0, batch_size=16
)


def test_matches_the_reference_schedules(references: Path) -> None:
    schedules = json.loads((references / "lr_schedules.json").read_text())
    assert len(schedules) >= 3
    for expected in schedules.values():
        train = TrainConfig(
            learning_rate=expected["base_lr"],
            milestones=tuple(expected["steps"]),
            iterations=expected["max_iter"],
            warmup_iterations=expected["warmup_iters"],
            warmup_factor=expected["warmup_factor"],
        )
        found = [learning_rate(i, train) for i in expected["iters"]]
        assert found == pytest.approx(expected["lr"], rel=1e-12)


@pytest.mark.parametrize(
    ("iteration", "expected"),
    [
        (0, 0.1),  # warm-up starts at its factor
        (5, 0.55),  # half way
        (10, 1.0),  # warm-up is over
        (59, 1.0),
        (60, 0.1),  # the step at the milestone is already lower
        (79, 0.1),
        (80, 0.01),
    ],
)
def test_warm_up_and_steps(iteration: int, expected: float) -> None:
    assert learning_rate(iteration, SHORT) == pytest.approx(expected)


def test_cosine_is_continuous_after_its_warm_up_and_ends_at_zero() -> None:
    train = TrainConfig(iterations=100, schedule="cosine", warmup_iterations=10, learning_rate=1.0, milestones=())
    assert learning_rate(50, train) == pytest.approx(0.5)
    assert learning_rate(100, train) == pytest.approx(0.0)
    assert learning_rate(10, train) == pytest.approx(0.97552826)  # (1 + cos 0.1π) / 2
    assert abs(learning_rate(9, train) - learning_rate(10, train)) < 0.1


def test_without_warm_up_the_first_step_has_the_full_rate() -> None:
    assert learning_rate(0, TrainConfig(warmup_iterations=0)) == pytest.approx(0.02)


def test_rate_scales_with_the_batch_and_says_so() -> None:
    train = TrainConfig(learning_rate=0.02, batch_size=4, reference_batch_size=16)
    assert peak_learning_rate(train) == pytest.approx(0.005)
    assert "0.005 = 0.02 × 4 / 16" in describe_learning_rate(train)
    unscaled = TrainConfig(learning_rate=0.02, batch_size=4, reference_batch_size=None)
    assert peak_learning_rate(unscaled) == pytest.approx(0.02)
    assert "×" not in describe_learning_rate(unscaled)
