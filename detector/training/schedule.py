"""The learning rate as a pure function of the iteration, so that a resumed run needs no schedule state."""

import math

from detector.config import TrainConfig


def learning_rate(iteration: int, train: TrainConfig) -> float:
    """Learning rate of the optimizer step that follows `iteration` finished steps (0 for the first step).

    The peak (`peak_learning_rate`) times a factor: `steps` multiplies by gamma at every milestone, the first step at
    the lower rate being the one with iteration == milestone; `cosine` falls to zero at `iterations`. During warm-up
    the factor rises linearly from `warmup_factor` to what the schedule has at the end of the warm-up.
    """
    return peak_learning_rate(train) * _factor(iteration, train)


def peak_learning_rate(train: TrainConfig) -> float:
    """`learning_rate`, scaled linearly from the batch that it is meant for to the one in use."""
    if train.reference_batch_size is None:
        return train.learning_rate
    return train.learning_rate * train.batch_size / train.reference_batch_size


def describe_learning_rate(train: TrainConfig) -> str:
    """One sentence for the log, with the arithmetic where the batch changes the learning rate."""
    peak = f"{peak_learning_rate(train):g}"
    if train.reference_batch_size is None or train.reference_batch_size == train.batch_size:
        return f"learning rate {peak} at {train.batch_size} images per step"
    return (
        f"learning rate {peak} = {train.learning_rate:g} × {train.batch_size} / {train.reference_batch_size}: scaled "
        f"linearly from {train.reference_batch_size} to {train.batch_size} images per step "
        f"(train.reference_batch_size=null takes learning_rate as it is)"
    )


def _factor(iteration: int, train: TrainConfig) -> float:
    if iteration >= train.warmup_iterations:
        return _schedule(iteration, train)
    progress = iteration / train.warmup_iterations
    start, end = train.warmup_factor * _schedule(0, train), _schedule(train.warmup_iterations, train)
    return start * (1 - progress) + end * progress


def _schedule(iteration: int, train: TrainConfig) -> float:
    if train.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(iteration / train.iterations, 1.0)))
    passed = sum(iteration >= milestone for milestone in train.milestones)
    return train.gamma**passed
