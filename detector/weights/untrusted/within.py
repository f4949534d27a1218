"""Where the weights lie within a checkpoint, and what training programs put before their names.

A state dict may be the whole file or an entry beside an optimizer's, entries deep. Data-parallel training,
`torch.compile`, moving averages and frameworks that train a model as an attribute of their own put the names of their
wrappers before all. A moving average beside the weights that it is of is left out; of other weights that differ nothing
says which are meant, so they are refused.
"""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from detector.errors import UserError, shown
from detector.printing import printable
from detector.weights.untrusted.inert_unpickle import TensorRecord

log = logging.getLogger(__name__)

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


_AVERAGED = re.compile(r"(?<![a-z])(ema|swa|avg|averaged?|shadow)(?![a-z])", re.IGNORECASE)
_NO_WEIGHTS = re.compile("optim|sched", re.IGNORECASE)  # entries whose tensors belong to training
_DEPTH = 4  # entries within entries that are looked into


@dataclass(frozen=True)
class Entry:
    """A state dict within a checkpoint. keys: that lead to it, none for the whole. beside: the mapping that has it."""

    weights: Mapping[Any, Any]
    keys: tuple[Any, ...]
    beside: Mapping[Any, Any]

    @property
    def is_average(self) -> bool:
        """Whether a key says that it is a moving average."""
        return any(isinstance(key, str) and _AVERAGED.search(key) for key in self.keys)

    def __str__(self) -> str:
        return "".join(f"[{shown(key)}]" for key in self.keys)


def weights_of(content: Mapping[Any, Any], source: str = "the file") -> Mapping[Any, Any]:
    """The entry that holds named tensors, as `find_entry` finds it."""
    return find_entry(content, source).weights


def find_entry(content: Mapping[Any, Any], source: str) -> Entry:
    """The entry that holds named tensors; the whole where none does.

    At each depth an entry with a usual name (`WEIGHTS_KEYS`) goes before others, and weights go before their averages.

    Raises:
        UserError: several are left, and differ.
    """
    entries = _entries(content, (), {id(content)})
    plain = [entry for entry in entries if not entry.is_average] or entries
    if not plain:
        usual = next((key for key in WEIGHTS_KEYS if isinstance(content.get(key), Mapping)), None)
        return Entry(content, (), {}) if usual is None else Entry(content[usual], (usual,), content)
    taken = plain[0]
    if any(not _same(taken.weights, other.weights) for other in plain[1:]):
        which = ", ".join(map(str, plain[:4])) + (", …" if len(plain) > 4 else "")
        raise UserError(
            f"{source}: has weights under several keys, which differ: {which}; write those that you want into a file "
            f"of their own, such as torch.save(torch.load(FILE){taken}, 'weights.pth')."
        )
    if len(entries) > len(plain):
        left_out = ", ".join(str(entry) for entry in entries if entry.is_average)
        log.info("%s: the weights under %s are taken, and not their average under %s", source, taken, left_out)
    return taken


def _entries(content: Mapping[Any, Any], keys: tuple[Any, ...], seen: set[int]) -> list[Entry]:
    """The state dicts in a mapping and, where none has a usual name, in the mappings within it; each mapping once."""
    inner = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    usual = [key for key in WEIGHTS_KEYS if key in inner and any(map(_is_tensor, inner[key].values()))]
    found = [Entry(inner[key], (*keys, key), content) for key in usual]
    for key, value in inner.items():
        entry = Entry(value, (*keys, key), content)
        if id(value) in seen or key in usual or (isinstance(key, str) and _NO_WEIGHTS.search(key)):
            continue
        if usual and not entry.is_average:
            continue
        seen.add(id(value))
        if any(isinstance(name, str) and "." in name and _is_tensor(one) for name, one in value.items()):
            found.append(entry)
        elif len(keys) < _DEPTH:
            found += _entries(value, entry.keys, seen)
    return found


def _same(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> bool:
    """Whether two state dicts are the same but for wrappers' names."""
    if one is other:
        return True
    first, second = (
        unwrapped({name: value for name, value in weights.items() if isinstance(name, str)}) for weights in (one, other)
    )
    return first.keys() == second.keys() and all(_equal(first[name], second[name]) for name in first)


def _equal(one: Any, other: Any) -> bool:
    """Whether two values of state dicts are equal. A tensor that claims more numbers than it has equals none."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if not (_is_plain(one) and _is_plain(other)) or one.dtype != other.dtype:
            return False
        return torch.equal(one, other)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    try:
        return type(one) is type(other) and bool(one == other)
    except (RecursionError, RuntimeError, ValueError):  # of containers, which are no weights
        return False


def _is_plain(tensor: Tensor) -> bool:
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def unwrapped(tensors: Mapping[str, T]) -> dict[str, T]:
    """The tensors without what wrappers have put before all of their names, whatever the wrappers' order.

    Other words before all names (`model.`, `detector.`) go where the names of a network known here follow. A moving
    average that was an attribute beside the model (`model.…` and `model_ema.…`) is left out.
    """
    names = _without_average_counters({name: name for name in tensors})
    names = _without_average(names)
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


def _without_average(names: dict[str, str]) -> dict[str, str]:
    """The names without those of moving averages, where the names of a network known here are left."""
    averages = {word for name in names if _AVERAGED.search(word := name.partition(".")[0])}
    kept = {name: original for name, original in names.items() if name.partition(".")[0] not in averages}
    if not averages or not any(set(name.split(".")[:3]) & set(ROOTS[:4]) for name in kept):
        return names
    log.info(
        "the weights under %s are taken, and not their average under %s",
        ", ".join(printable(word, 60) for word in dict.fromkeys(name.partition(".")[0] for name in kept)),
        ", ".join(printable(word, 60) for word in sorted(averages)),
    )
    return kept
