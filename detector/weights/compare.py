"""Whether tensors fit a model: the one comparison of names and shapes, and the loading that rests on it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from detector.errors import UserError
from detector.printing import printable

Shapes = Mapping[str, tuple[int, ...]]

# A live batch norm counts its batches; the count is not needed (momentum is fixed) and other frameworks drop it.
COUNTER = ".num_batches_tracked"
LISTED = 8  # names in a message about one kind; of several kinds half as many each
LONGEST_NAME = 80  # characters of a name in a message


@dataclass(frozen=True)
class StateDifferences:
    """How the given tensors differ from the expected ones; truthy where they do.

    left_over, missing: names. other_shapes: clauses with the name and both shapes.
    """

    left_over: tuple[str, ...]
    missing: tuple[str, ...]
    other_shapes: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.left_over or self.missing or self.other_shapes)

    def describe(self) -> str:
        """`left over (2): a, b; missing (1): c; of another shape (1): d is [3] and should be [2]`."""
        kinds = (
            ("left over", self.left_over, LONGEST_NAME),
            ("missing", self.missing, LONGEST_NAME),
            ("of another shape", self.other_shapes, None),
        )
        listed = LISTED if sum(bool(names) for _, names, _ in kinds) == 1 else LISTED // 2
        return "; ".join(list_names(what, names, longest, listed) for what, names, longest in kinds if names)


def compare_state(expected: Shapes, given: Shapes, called: Mapping[str, str] | None = None) -> StateDifferences:
    """Compare names and shapes of tensors. Counters of batches may be missing, and may be left over.

    Args:
        expected: name → shape, of the model.
        given: name → shape, of a file.
        called: our name → what the file calls it, for messages; a name that is not there is its own.
    """
    names = called or {}
    left_over = (names.get(name, name) for name in given if name not in expected and not name.endswith(COUNTER))
    missing = (names.get(name, name) for name in expected if name not in given and not name.endswith(COUNTER))
    other = (
        f"{printable(names.get(name, name), LONGEST_NAME)} is {list(given[name])} and should be {list(shape)}"
        for name, shape in expected.items()
        if name in given and tuple(given[name]) != tuple(shape)
    )
    return StateDifferences(tuple(left_over), tuple(missing), tuple(other))


def list_names(
    what: str, names: tuple[str, ...] | list[str], longest: int | None = LONGEST_NAME, listed: int = LISTED
) -> str:
    """`missing (3): a, b, c`; of many only the first, and of long ones the beginning."""
    more = f" and {len(names) - listed} more" if len(names) > listed else ""
    return f"{what} ({len(names)}): {', '.join(printable(name, longest) for name in names[:listed])}{more}"


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Name → shape of a state dict."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def load_state(model: nn.Module, state: Mapping[str, Tensor], where: str, remedy: str) -> None:
    """Copy all tensors of `state` into the model, which it must fit exactly but for counters of batches.

    Args:
        model: changed in place.
        state: names as the model's.
        where: the file, for the message.
        remedy: what to do about it, as the end of the sentence.

    Raises:
        UserError: names or shapes are not the model's; nothing is changed then.
    """
    target = model.state_dict()
    differences = compare_state(shapes_of(target), shapes_of(state))
    if differences:
        raise UserError(f"{where}: the tensors do not fit the model ({differences.describe()}); {remedy}")
    copy_state(target, state)


def copy_state(target: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Copy the tensors of `state` into those of the same name and shape in `target`, a model's state dict."""
    with torch.no_grad():
        for name, tensor in state.items():
            if name in target:
                target[name].copy_(tensor)


def as_float32(tensor: Tensor) -> Tensor:
    """The tensor, of the same shape, as a model keeps it: floating point in float32, counters as they are."""
    return tensor.float() if tensor.is_floating_point() else tensor


def require_finite(state: Mapping[str, Tensor], where: str) -> None:
    """Raise UserError for the first tensor, of any shape, with NaN or infinity: with those nothing is ever detected."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            wrong = int((~torch.isfinite(tensor)).sum())
            raise UserError(
                f"{where}: {printable(name, LONGEST_NAME)} holds NaN or infinity in {wrong} of its {tensor.numel()} "
                "numbers, so nothing would be detected; take an earlier checkpoint, or copy the file again."
            )
