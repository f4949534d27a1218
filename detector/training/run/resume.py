"""Whether a checkpoint and a config belong to one run, and what changes where they differ."""

from collections.abc import Callable

from detector.categories import CategoryMap, list_categories
from detector.config import Config, differences
from detector.errors import UserError
from detector.training.state.checkpoint import TrainingState

# Settings that say what is written, shown and scored, or where from; the weights come out the same.
WITHOUT_EFFECT = (
    "model.weights",
    "model.backbone.weights",
    "model.detection.",
    "data.num_workers",
    "data.val_",
    "input.min_size_test",
    "input.max_size_test",
    "train.log_every",
    "train.evaluate_every",
    "train.validation_loss",
    "train.patience",
    "train.save_every",
    "train.keep_checkpoints",
    "train.max_skipped_steps",
    "train.sample_pictures",
    "train.tensorboard",
)


def check_resumable(
    state: TrainingState, config: Config, categories: CategoryMap, world_size: int, warn: Callable[[str], None]
) -> None:
    """Compare a checkpoint with what the run is about to do; differences in settings are said one by one.

    Raises:
        UserError: the classes differ, so the head's rows would mean something else.
    """
    if state.categories != categories:
        raise UserError(
            f"the checkpoint was trained on {len(state.categories)} categories "
            f"({list_categories(state.categories.categories)}), and the dataset has {len(categories)} "
            f"({list_categories(categories.categories)}); start a new run from its weights with --weights."
        )
    changed = differences(state.config, config)
    harmless = [line for line in changed if line.startswith(WITHOUT_EFFECT)]
    others = [line for line in changed if line not in harmless]
    if harmless:
        warn(f"settings changed since the checkpoint: {'; '.join(harmless)}.")
    if others:
        warn(
            f"settings changed since the checkpoint, so the result will not be that of an uninterrupted run: "
            f"{'; '.join(others)}."
        )
    if state.world_size != world_size:
        warn(
            f"resumed with {_processes(world_size)} instead of {state.world_size}: a step still has "
            f"{config.train.batch_size} images, the same ones, and sums round differently."
        )


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"
