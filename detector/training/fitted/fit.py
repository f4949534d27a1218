"""Fit a recipe to the data that settings name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detector.config import Config, config_to_dict, flatten, load_config
from detector.datasets.layouts.apply import describe_splits
from detector.datasets.splits import open_train_and_val
from detector.training.fitted.choice import describe_choices
from detector.training.fitted.facts import facts_of
from detector.training.fitted.machine import look_at_machine
from detector.training.fitted.recipe import NAMES, base_recipe, choose_recipe
from detector.weights.resolve import resolve_weights

# Settings of the user that are judged before anything is chosen by them.
_JUDGED = ("data.", "input.", "train.", "model.kind")


@dataclass(frozen=True)
class Fitted:
    """base: the recipe below, None for the defaults. values: the choices, by dotted names. lines: for people."""

    base: str | None
    values: dict[str, Any]
    lines: list[str]


def fit(layout: Mapping[str, Any], given: Mapping[str, Any], device: str) -> Fitted:
    """Choose every setting for a set that the user has not.

    Args:
        layout: settings of the data, as `layout_settings` has them.
        given: settings of the user.
        device: that will train.

    Raises:
        UserError: the data or the user's weights cannot be read.
    """
    judged = {key: value for key, value in given.items() if key.startswith(_JUDGED)}
    config = load_config(None, dict(layout) | judged)
    train, val = open_train_and_val(config.data)
    weights = given.get("model.weights")
    network = {} if weights is None else _network_of(resolve_weights(str(weights)).config)
    machine = look_at_machine(device, () if weights is not None else NAMES)
    known = flatten(config_to_dict(config))
    sound = {key: known[key] for key in judged if key in known}  # of the types that they should have
    choices = choose_recipe(facts_of(train, val), machine, network | dict(given) | sound)
    lines = describe_splits(config.data, {"train": train} | ({"val": val} if val is not None else {})).split("\n")
    values = {key: value for choice in choices for key, value in choice.values.items()}
    base = base_recipe(machine)
    if weights is not None:
        base = None
        values = {key: value for key, value in values.items() if not key.startswith("model.")} | network
        choices = [choice for choice in choices if choice.topic not in ("network", "anchors", "regions")]
        lines.append(f"network and anchors are those of {weights}")
    return Fitted(base, values, [*lines, *describe_choices(choices, given)])


def _network_of(config: Config) -> dict[str, Any]:
    """The settings of a network, by dotted names, without its classes and where it came from."""
    values = flatten({key: value for key, value in config_to_dict(config).items() if key in ("model", "input")})
    sizes = ("input.min_size", "input.max_size")
    skipped = ("model.num_classes", "model.weights", "model.backbone.weights", *sizes)
    return {key: value for key, value in values.items() if not key.startswith(skipped)}
