"""How much each class counts in the head's loss."""

import difflib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from detector.categories import CategoryMap
from detector.config import ConfigError
from detector.errors import shown

_LARGEST = 1e4


def class_weights(setting: Any, categories: CategoryMap) -> Tensor | None:
    """`train.class_weights` as the weight of each label; classes that it does not name, and the background, have 1.

    Args:
        setting: None, or a mapping from class names to weights above 0.
        categories: of the training data.

    Returns:
        [K+1] float32, label 0 the background; None where nothing is weighted.

    Raises:
        ConfigError: it is no such mapping, names a class that is not there, or a weight is out of range.
    """
    if setting is None:
        return None
    if not isinstance(setting, Mapping):
        raise ConfigError(f"train.class_weights={shown(setting)}: write a mapping, such as {{cat: 2, dog: 0.5}}.")
    weights = torch.ones(len(categories) + 1)
    for name, value in setting.items():
        if str(name) not in (*categories.names, "background"):
            near = difflib.get_close_matches(str(name), categories.names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"classes are {', '.join(categories.names[:20])}."
            raise ConfigError(f"train.class_weights: there is no class {shown(name)}; {hint}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LARGEST:
            raise ConfigError(
                f"train.class_weights: {name} has {shown(value)}; choose a number above 0, at most 10000."
            )
        weights[(["background", *categories.names]).index(str(name))] = float(value)
    return weights
