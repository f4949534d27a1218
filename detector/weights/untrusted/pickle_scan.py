"""Look through a pickle without running it: how many instructions it has, and how large its tuples are written out.

Both bound the time that reading it takes. A tuple is hashed anew wherever it is a key, down to its last item; forty
instructions can make one that stands for 2⁴⁰ items, because it holds the one before it twice.
"""

import pickletools
from typing import Any

from detector.weights.untrusted.bounded_reader import BoundedReader

MAX_INSTRUCTIONS = 200_000  # a checkpoint of ResNet-152 with its optimizer's state has a quarter
MAX_TUPLE_ITEMS = 100_000

_MARK = object()
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_GETS = ("GET", "BINGET", "LONG_BINGET")


class TooLongError(ValueError):
    """A pickle has more in it than weights can need. The message is a clause about the file."""


def scan_pickle(file: BoundedReader) -> None:
    """Read one pickle from its first instruction to its last; the file's position is behind it then.

    Raises:
        TooLongError: it has more instructions, or larger tuples, than weights have.
        ValueError, IndexError, KeyError, …: it is damaged, in one of many ways.
    """
    stack: list[Any] = []  # of every value the number of items that it stands for; only tuples have more than one
    memo: dict[Any, Any] = {}
    for count, (instruction, argument, _) in enumerate(pickletools.genops(file), start=1):  # type: ignore[arg-type]
        if count > MAX_INSTRUCTIONS:
            raise TooLongError(f"it has more than {MAX_INSTRUCTIONS} instructions, and weights have far fewer")
        name = instruction.name
        if name in _GETS:
            stack.append(memo.get(argument, 1))
        elif name in _PUTS:
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "DUP":
            stack.append(stack[-1])
        elif name in _TUPLES:
            taken = _TUPLES[name]
            items = stack[len(stack) - taken :]
            del stack[len(stack) - taken :]
            stack.append(_tuple_of(items))
        elif name == "TUPLE":
            stack.append(_tuple_of(_pop_to_mark(stack)))
        else:
            before = [kind.name for kind in instruction.stack_before]
            if "mark" in before:
                _pop_to_mark(stack)
                before = before[: before.index("mark")]
            del stack[max(len(stack) - len(before), 0) :]
            stack += [_MARK if kind.name == "mark" else 1 for kind in instruction.stack_after]


def _tuple_of(items: list[Any]) -> int:
    size = 1 + sum(item for item in items if item is not _MARK)
    if size > MAX_TUPLE_ITEMS:
        raise TooLongError(f"it has a tuple that stands for more than {MAX_TUPLE_ITEMS} items")
    return size


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    items = []
    while stack:
        item = stack.pop()
        if item is _MARK:
            break
        items.append(item)
    return items
