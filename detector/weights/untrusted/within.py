"""Where the weights lie within a checkpoint, and what training programs put before their names.

A state dict may be the whole file or one entry beside an optimizer's. Data-parallel training, `torch.compile`, moving
averages and frameworks that train a model as an attribute of their own put the names of their wrappers before all.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from detector.weights.untrusted.inert_unpickle import TensorRecord

T = TypeVar("T")

# What programs call the entry: detectron2 and torchvision's scripts; mmdetection, Lightning; PyTorch's own tutorials …
WEIGHTS_KEYS = (
    "model",
    "state_dict",
    "model_state_dict",
    "model_state",
    "net",
    "network",
    "weights",
    "params",
    "blobs",
)
COMPILED = "_orig_mod"  # torch.compile's wrapper, also around a part of a model
WRAPPERS = ("module", COMPILED)  # the first one is that of data-parallel training and of moving averages
AVERAGE_COUNTERS = ("n_averaged", "steps")  # beside the weights in a moving average of PyTorch and of mmengine
# One of them begins a name of every detector and ResNet known here.
ROOTS = ("backbone", "conv1", "layer1", "stem", *WRAPPERS)


def weights_of(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The entry that holds named tensors; the whole where no entry does, or several do under unusual names."""
    inner = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    known = [inner[key] for key in WEIGHTS_KEYS if key in inner]
    holding = [value for value in known if any(map(_is_tensor, value.values()))]
    if holding or known:
        return (holding or known)[0]
    whole = [value for value in inner.values() if value and all(map(_is_tensor, value.values()))]
    return whole[0] if len(whole) == 1 else content


def unwrapped(tensors: Mapping[str, T]) -> dict[str, T]:
    """The tensors without what wrappers have put before all of their names, whatever the wrappers' order.

    Other words before all names (`model.`, `detector.`) go where the names of a network known here follow.
    """
    names = _without_average_counters({name: name for name in tensors})
    names = _renamed(names, lambda name: ".".join(part for part in name.split(".") if part != COMPILED))
    while len(first := {name.partition(".")[0] for name in names}) == 1:
        (word,) = first
        rest = [name.partition(".")[2] for name in names]
        if not all(rest) or not (word in WRAPPERS or any(name.partition(".")[0] in ROOTS for name in rest)):
            break
        names = _renamed(names, lambda name: name.partition(".")[2])
        names = _without_average_counters(names)
    return {name: tensors[original] for name, original in names.items()}


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray, TensorRecord))


def _renamed(names: dict[str, str], rename: Callable[[str], str]) -> dict[str, str]:
    """Every name renamed, unless two would become one."""
    renamed = {rename(name): original for name, original in names.items()}
    return renamed if len(renamed) == len(names) else names


def _without_average_counters(names: dict[str, str]) -> dict[str, str]:
    kept = {name: original for name, original in names.items() if name not in AVERAGE_COUNTERS}
    return kept if kept and all(name.startswith(f"{WRAPPERS[0]}.") for name in kept) else names
