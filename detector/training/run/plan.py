"""When a run saves, evaluates and ends: functions of where it stands, so a resumed run keeps the same schedule.

A checkpoint is written before the evaluation of the same iteration. If the evaluation is interrupted, only it is lost,
and a run resumed from there begins with it. Once it is done, the checkpoint notes it.
"""

from detector.config import TrainConfig
from detector.training.state.progress import Progress


def is_evaluation_due(progress: Progress, train: TrainConfig) -> bool:
    """Whether the model should be scored at this iteration and has not been."""
    return progress.evaluated_iteration < progress.iteration and (
        _is_multiple(progress.iteration, train.evaluate_every) or progress.iteration >= train.iterations
    )


def is_save_due(progress: Progress, train: TrainConfig, saved_iteration: int) -> bool:
    """Whether a checkpoint is to be written at this iteration and has not been."""
    return progress.iteration != saved_iteration and (
        _is_multiple(progress.iteration, train.save_every) or is_evaluation_due(progress, train)
    )


def is_finished(progress: Progress, train: TrainConfig) -> bool:
    """Whether the run has all its iterations, or has stopped getting better."""
    out_of_patience = train.patience is not None and progress.evaluations_without_gain >= train.patience
    return progress.iteration >= train.iterations or out_of_patience


def what_goes_further(progress: Progress, train: TrainConfig) -> str:
    """What would take a finished run further."""
    if progress.iteration < train.iterations:
        return f"a larger train.patience than {train.patience}, or null, would take it further"
    return "a larger train.iterations would take it further"


def is_log_due(progress: Progress, train: TrainConfig) -> bool:
    """Whether the numbers of the last steps are to be written."""
    return _is_multiple(progress.iteration, train.log_every) or progress.iteration >= train.iterations


def _is_multiple(iteration: int, every: float) -> bool:
    return every > 0 and iteration > 0 and iteration % every == 0
