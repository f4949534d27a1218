"""Whether a checkpoint and a config belong to one run, and what changes where they differ."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from detector.categories import CategoryMap, list_categories
from detector.config import CONFIG_FILE, Config, differences, save_config
from detector.datasets.fingerprint import Fingerprint, describe_change
from detector.errors import UserError
from detector.training.run.output import CHECKPOINTS
from detector.training.state.checkpoint import TrainingState, read_settings
from detector.training.state.checkpoint_names import list_checkpoints

UNREAD = ("model.weights", "model.backbone.weights")  # the checkpoint has all weights
TRAINING_FILES = ("data.train_annotations", "data.train_images")
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
    before, now = state.annotations.get("train"), annotations.get("train")
    moved = TRAINING_FILES if before is not None and before == now else ()  # the same pictures elsewhere
    harmless = [line for line in changed if line.startswith(WITHOUT_EFFECT + moved)]
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
    for split, earlier in state.annotations.items():
        change = describe_change(earlier, annotations[split]) if split in annotations else None
        if change:
            warn(f"the annotations of the {split} split changed since the checkpoint: {change}. {CONSEQUENCES[split]}")
    if state.world_size != world_size:
        warn(
            f"resumed with {_processes(world_size)} instead of {state.world_size}: a step still has "
            f"{config.train.batch_size} images, the same ones, and sums round differently."
        )


def begun_from(config: Config, begun: Config) -> Config:
    """The settings of a run that goes on, which still says what the run began from (`begun`) and not what is unread."""
    backbone = replace(config.model.backbone, weights=begun.model.backbone.weights)
    return replace(config, model=replace(config.model, weights=begun.model.weights, backbone=backbone))


def restore_config(output: Path) -> bool:
    """Write the config of a run's folder again from its newest checkpoint that says it; whether there is one.

    Raises:
        UserError: it cannot be written.
    """
    for path in list_checkpoints(output / CHECKPOINTS):
        config = read_settings(path)
        if config is not None:
            save_config(config, output / CONFIG_FILE)
            return True
    return False


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"
