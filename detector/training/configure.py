"""The settings of a run from what a user says: a recipe, a folder of data, words; and what follows from these."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detector.config import Config, TrainConfig, load_config, read_words
from detector.config.short_words import expand
from detector.datasets.layouts.apply import describe_layout, layout_settings, take_data_value, take_data_word
from detector.errors import UserError

# What is counted in steps, and means a number of pictures.
_IN_STEPS = ("iterations", "milestones", "warmup_iterations", "evaluate_every", "save_every")


@dataclass(frozen=True)
class Configured:
    """The settings of a run, and a line for each thing that was understood or follows from something else."""

    config: Config
    notes: tuple[str, ...]


def configure(
    path: str | Path | None,
    words: Sequence[str] | Mapping[str, Any],
    is_resumed_config: bool = False,
    device: str = "auto",
) -> Configured:
    """Read a config and apply the words of the command line; `data=…` among them is a folder to understand.

    Args:
        path: a YAML file or a recipe's name; None: the defaults, or for `data=…` a recipe that is fitted to it.
        words: `key.path=value`, short words, and `data=FOLDER`; or values by these names.
        is_resumed_config: the config is that of a run which goes on, so its schedule is not stretched.
        device: that will train; a recipe is fitted to it too.

    Raises:
        UserError: one sentence on the word, the config or the folder that cannot be used.
    """
    if isinstance(words, Mapping):
        values, layout = take_data_value(words)
        given = {name: one for key, value in values.items() for name, one in expand(key, value).items()}
    else:
        texts, layout = take_data_word(words)
        given = read_words(texts)
    before = load_config(path)
    notes: list[str] = []
    of_folder: dict[str, Any] = {}
    if layout is not None:
        layout.require_train()
        of_folder = layout_settings(layout, before.data.hold_out)
        notes += describe_layout(layout)
        if path is None:
            from detector.training.fitted.fit import fit  # torch, which other words do without

            refuse_many_processes()
            fitted = fit(of_folder, given, device)
            path, of_folder = fitted.base, of_folder | fitted.values
            # Its length is worked out for the batch that is given, so nothing follows from that any more.
            before = load_config(path, of_folder | {key: given[key] for key in given if key == "train.batch_size"})
            notes += fitted.lines
    config = load_config(path, of_folder | given)
    if not is_resumed_config:
        train, lines = follow(before.train, config.train, given)
        config = replace(config, train=train)
        notes += lines
    return Configured(config, tuple(notes))


def refuse_many_processes() -> None:
    """Raise UserError under torchrun, whose processes might each fit another recipe, on machines that differ."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "several processes need one recipe: add --config, such as the config.yaml that a run of one process with "
            "data=… has written (stop it with Ctrl-C when it trains)."
        )


def follow(before: TrainConfig, after: TrainConfig, given: Mapping[str, Any]) -> tuple[TrainConfig, list[str]]:
    """The schedule that follows a changed batch or a length in epochs; what is given explicitly stays.

    With another batch the run sees as many pictures as before: everything that is counted in steps is scaled. With
    epochs, milestones and the times of evaluation keep their shares of the run.

    Args:
        before: the recipe's settings, which belong together.
        after: with what was given.
        given: the names of the settings that were.

    Returns:
        The settings, and a line of the arithmetic where something changed.
    """
    counted = [name for name in _IN_STEPS if name != "milestones" or after.schedule == "steps"]
    free = [name for name in counted if f"train.{name}" not in given]
    if "train.iterations" in given:
        return after, []
    if after.epochs is not None:
        return (_as_shares(before, after, free), []) if "train.epochs" in given else (after, [])
    if after.batch_size == before.batch_size:
        return after, []
    factor = before.batch_size / after.batch_size
    values = {name: _scaled(getattr(before, name), factor) for name in free}
    changes = [
        f"train.{name} {_plain(getattr(before, name))} → {_plain(value)}"
        for name, value in values.items()
        if value != getattr(before, name)
    ]
    line = (
        f"train.batch_size {before.batch_size} → {after.batch_size}: the run sees as many pictures as before "
        f"({before.iterations * before.batch_size:,}), so {', '.join(changes)}"
    )
    return replace(after, **values), [line]


def _as_shares(before: TrainConfig, after: TrainConfig, free: Sequence[str]) -> TrainConfig:
    length = before.iterations
    values: dict[str, Any] = {}
    if "milestones" in free:
        values["milestones"] = tuple(m if m < 1 else min(m / length, 0.999999) for m in before.milestones)
    if "warmup_iterations" in free and before.warmup_iterations >= 1:
        values["warmup_iterations"] = min(0.2, max(0.05, before.warmup_iterations / length))
    if "evaluate_every" in free and before.evaluate_every >= 1:
        share = before.evaluate_every / length
        values["evaluate_every"] = share if share < 1 else 0
    return replace(after, **values)


def _scaled(value: Any, factor: float) -> Any:
    """A number of steps times a factor; shares of the run stay."""
    if isinstance(value, tuple):
        return tuple(_scaled(item, factor) for item in value)
    return value if value < 1 else max(1, math.ceil(value * factor))


def _plain(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)
