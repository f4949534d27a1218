"""Apply a table of names: every tensor of the source is used or dropped on purpose, or nothing is loaded."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from detector.errors import UserError
from detector.printing import printable
from detector.weights.compare import COUNTER, LONGEST_NAME, Shapes, compare_state, list_names, shapes_of

Renames = tuple[tuple[str, str], ...]  # pieces of names, ours and another framework's

STATISTICS = (".running_mean", ".running_var")


def remap(
    source: Mapping[str, Tensor],
    table: Mapping[str, str | None],
    expected: Shapes,
    where: str,
) -> dict[str, Tensor]:
    """Rename the tensors of `source`, and prove that it is all of them and all that is needed.

    Args:
        source: tensors under another framework's names.
        table: source name → our name, or None for a tensor that is dropped on purpose. It may name more than there is;
            what is then missing shows in `expected`.
        expected: our name → shape, of everything that must result. Counters of batches may be missing and are then 0;
            those that the model does not keep (its norms are frozen) are dropped.
        where: the file's name, for the message.

    Returns:
        Exactly the tensors of `expected`.

    Raises:
        UserError: one message with every unknown source tensor, every missing one, and every wrong shape.
    """
    unknown = [name for name in source if name not in table and not name.endswith(COUNTER)]
    renamed: dict[str, Tensor] = {}
    origin = {ours: theirs for theirs, ours in table.items() if ours is not None}
    twice: list[str] = []
    for name, tensor in source.items():
        ours = table.get(name)
        if ours is None:
            continue
        if ours in renamed:
            twice.append(f"{printable(name, LONGEST_NAME)} and {printable(origin[ours], LONGEST_NAME)}")
        renamed[ours] = tensor
        origin[ours] = name
    differences = compare_state(expected, shapes_of(renamed), origin)
    differences = replace(differences, left_over=(*unknown, *differences.left_over))
    problems = [differences.describe()] if differences else []
    problems += [list_names("given twice", twice, longest=None)] if twice else []
    if problems:
        raise UserError(f"{where}: the tensors do not fit the model of the config: {'; '.join(problems)}.")
    counters = {name: torch.zeros((), dtype=torch.int64) for name in expected if name.endswith(COUNTER)}
    return {name: renamed[name] if name in renamed else counters[name] for name in expected}


def fill_folded_statistics(
    source: Mapping[str, Tensor], table: Mapping[str, str | None], expected: Shapes
) -> dict[str, Tensor]:
    """Complete a file whose norms hold no statistics at all, as Detectron-v1's have them folded into the affine map.

    Mean 0 and variance 1 then leave that map, up to the norm's epsilon, which detectron2 leaves in too. A file that has
    some statistics is returned as it is: what it lacks is a gap.
    """
    filled = dict(source)
    if any(name.endswith(("running_mean", "running_var")) for name in source):
        return filled
    for theirs, ours in table.items():
        if ours is not None and ours in expected and ours.endswith(STATISTICS):
            make = torch.zeros if ours.endswith(STATISTICS[0]) else torch.ones
            filled[theirs] = make(expected[ours])
    return filled


def translate(names: Iterable[str], renames: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Our names → another framework's: every rename `(ours, theirs)` is applied in turn, as a piece of the name.

    Pieces are plain text with dots at their borders, so none matches inside of a word. The result is one to one.
    """
    table: dict[str, str] = {}
    pieces = list(renames)
    for name in names:
        theirs = f".{name}"
        for ours, other in pieces:
            theirs = theirs.replace(ours, other)
        table[name] = theirs.removeprefix(".")
    assert len(set(table.values())) == len(table), "two of our tensors got one name"
    return table


def one_box_for_each_class(tensors: Mapping[str, Tensor], layer: str, classes: int) -> dict[str, Tensor]:
    """The tensors with a class-agnostic box layer as one of every class, which gives each the same box.

    Args:
        tensors: by another framework's names.
        layer: how the names of the box layer's tensors begin. Those with other than 4 rows are left as they are.
        classes: K.
    """
    repeated = {
        name: tensor.repeat(classes, *[1] * (tensor.dim() - 1))
        for name, tensor in tensors.items()
        if name.startswith(layer) and tensor.shape[:1] == (4,)
    }
    return {**tensors, **repeated}


def reverse_channels(weight: Tensor) -> Tensor:
    """A first convolution [C, 3, 7, 7] for pixels in the opposite channel order."""
    return weight.flip(1)
