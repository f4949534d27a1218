"""Which of a picture's detections are meant: by number, slice, mask or class."""

import difflib
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detector.categories import CategoryMap, list_categories
from detector.errors import UserError, shown

Mask = Tensor | np.ndarray | Sequence[bool] | Sequence[int]


def chosen_rows(which: Any, count: int) -> int | slice | Tensor:
    """A number, slice, mask or list of numbers as what indexes tensors of `count` rows.

    Returns:
        0 ≤ row < count for one number; a slice as it is, or with its rows listed where it runs backwards, which tensors
        cannot; an int64 tensor of rows for a mask or a list.

    Raises:
        IndexError: there is no such row, or a mask has not `count` values.
        TypeError: it is none of these.
    """
    if isinstance(which, slice):
        return torch.arange(count)[list(range(count))[which]] if (which.step or 1) < 0 else which
    if not isinstance(which, (bool, np.bool_)) and hasattr(which, "__index__") and np.ndim(which) == 0:
        return _row(operator.index(which), count)
    values = which.detach().cpu().numpy() if isinstance(which, Tensor) else np.asarray(which)
    if values.ndim != 1 or (values.dtype.kind not in "biu" and values.size):
        raise TypeError("detections are indexed by a number, a slice, a mask of booleans, or a list of numbers.")
    if values.dtype.kind == "b":
        if len(values) != count:
            raise IndexError(f"a mask of {len(values)} values cannot choose among {count} detections.")
        return torch.from_numpy(np.flatnonzero(values))
    return torch.tensor([_row(int(value), count) for value in values.tolist()], dtype=torch.int64)


def labels_of(classes: Sequence[str | int], categories: CategoryMap) -> list[int]:
    """The labels 1..K of classes that are given by name or by label; all labels of a name that several have.

    Raises:
        UserError: there is no such class.
    """
    if isinstance(classes, (str, int)):
        classes = [classes]
    labels: list[int] = []
    for one in classes:
        if isinstance(one, str):
            named = [label for label, name in enumerate(categories.names, start=1) if name == one]
        else:
            named = [one] if 1 <= one <= len(categories) else []
        if not named:
            near = difflib.get_close_matches(str(one), categories.names, n=1)
            hint = f"did you mean {shown(near[0])}?" if near else f"there are {list_categories(categories.categories)}."
            raise UserError(f"there is no class {shown(one)}; {hint}")
        labels += named
    return labels


def _row(number: int, count: int) -> int:
    if not -count <= number < count:
        raise IndexError(f"there is no detection {number}: the picture has {count}.")
    return number % count
