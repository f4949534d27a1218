"""Whether a checkpoint and a config belong to one run, and what changes where they differ."""

from collections.abc import Callable, Mapping

from detector.categories import CategoryMap, list_categories
from detector.config import Config, differences
from detector.datasets.fingerprint import Fingerprint, describe_change
from detector.errors import UserError
from detector.training.state.checkpoint import TrainingState

UNREAD = ("model.weights", "model.backbone.weights")  # the checkpoint has all weights
# Settings that say what is written, shown and scored, or where from; the weights come out the same.
WITHOUT_EFFECT = (
    "model.detection.",
    "data.num_workers",
    "data.val_",
    "data.test_",
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
    "train.trackers",
)

CONSEQUENCES = {
    "train": "The result will not be that of an uninterrupted run.",
    "val": "APs before and after, the best one among them, do not compare.",
}


def check_resumable(
    state: TrainingState,
    config: Config,
    categories: CategoryMap,
    annotations: Mapping[str, Fingerprint],
    world_size: int,
    warn: Callable[[str], None],
) -> None:
    """Compare a checkpoint with the run that is to go on from it, and warn of each difference in settings and data.

    Args:
        state: the checkpoint's.
        config: of the run that goes on, with its number of classes.
        categories, annotations: of its data; the annotations by split.
        world_size: of its processes.
        warn: takes one sentence.

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
    unread = [line for line in changed if line.startswith(UNREAD)]
    harmless = [line for line in changed if line.startswith(WITHOUT_EFFECT)]
    others = [line for line in changed if line not in harmless + unread]
    if unread:
        warn(f"without effect, because the run goes on from its checkpoint: {'; '.join(unread)}.")
    if harmless:
        warn(f"settings changed since the checkpoint: {'; '.join(harmless)}.")
    if others:
        warn(
            f"settings changed since the checkpoint, so the result will not be that of an uninterrupted run: "
            f"{'; '.join(others)}."
        )
    for split, before in state.annotations.items():
        change = describe_change(before, annotations[split]) if split in annotations else None
        if change:
            warn(f"the annotations of the {split} split changed since the checkpoint: {change}. {CONSEQUENCES[split]}")
    if state.world_size != world_size:
        warn(
            f"resumed with {_processes(world_size)} instead of {state.world_size}: a step still has "
            f"{config.train.batch_size} images, the same ones, and sums round differently."
        )


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"
