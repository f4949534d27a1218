"""The learning rate as a pure function of the iteration, so that a resumed run needs no schedule state."""

import math
from dataclasses import replace

from detector.config import TrainConfig

EPOCH_WARMUP = 0.05  # of a run that is given in epochs, where nobody has said


def in_iterations(train: TrainConfig, pictures: int) -> tuple[TrainConfig, list[str]]:
    """The schedule in iterations alone: epochs and shares of the run become whole numbers of steps.

    Args:
        train: its `iterations` are those of another length where `epochs` is set; the default milestones and warm-up,
            which are meant for them, then keep their shares of the run.
        pictures: that an epoch has.

    Returns:
        The settings, `epochs` being None, and a line with the arithmetic of each thing that was computed.
    """
    lines = []
    if train.epochs is not None:
        default = TrainConfig()
        iterations = max(1, math.ceil(train.epochs * pictures / train.batch_size - 1e-9))
        lines.append(
            f"train.epochs={train.epochs:g}: {train.epochs:g} × {pictures} pictures / {train.batch_size} a step = "
            f"train.iterations={iterations}"
        )
        if train.milestones == default.milestones and train.schedule == "steps":
            train = replace(train, milestones=tuple(m / default.iterations for m in default.milestones))
        if train.warmup_iterations == default.warmup_iterations:
            train = replace(train, warmup_iterations=EPOCH_WARMUP)
        train = replace(train, iterations=iterations, epochs=None)
    fixed = replace(
        train,
        milestones=tuple(_steps(value, train.iterations) for value in train.milestones),
        warmup_iterations=_steps(train.warmup_iterations, train.iterations),
        evaluate_every=max(1, every) if (every := _steps(train.evaluate_every, train.iterations)) else 0,
    )
    for name in ("milestones", "warmup_iterations", "evaluate_every"):
        before, after = getattr(train, name), getattr(fixed, name)
        if before != after:
            shown = list(after) if isinstance(after, tuple) else after
            lines.append(f"train.{name}={shown} of {train.iterations} iterations")
    return fixed, lines


def _steps(value: float, iterations: int) -> int:
    """A number of iterations, or a share of all of them, as a number of iterations; a share is one step or more."""
    return max(1, round(value * iterations)) if 0 < value < 1 else int(value)


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


def _schedule(iteration: float, train: TrainConfig) -> float:
    if train.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(iteration / train.iterations, 1.0)))
    passed = sum(iteration >= milestone for milestone in train.milestones)
    return train.gamma**passed
